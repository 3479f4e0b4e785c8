//! engine library
