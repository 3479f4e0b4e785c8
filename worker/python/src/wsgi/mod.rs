//! PEP 3333, one file per noun: the [`environ`] of a request, its [`input`], [`start`] of a response, the [`call`] with its state,
//! how it is [`run`], and the [`files`] it may answer with.
pub mod call;
pub mod environ;
pub mod files;
pub mod hints;
pub mod input;
pub mod run;
pub mod start;
