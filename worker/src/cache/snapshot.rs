//! The contents of a cache as a file that outlives the appliance (`persist`): every item with its key and its expiry, and a
//! check sum over all. It is written anew as a whole and then takes the place of the old one, so a power cut leaves the one or
//! the other. Nothing of a file is believed before the sum has been checked. Used by `keeper.rs`; no clock is read here.
use super::layout::NEVER;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What such a file begins with.
const MAGIC: &[u8; 16] = b"appliance-cache\x01";
/// Head of an item: length of its key, length of its value, expiry.
const HEAD: usize = 2 + 4 + 8;

/// A file that is being written. Dropped before its end, it has never been.
pub struct Writer {
    file: Summed<BufWriter<File>>,
    path: PathBuf,
    new: PathBuf,
    items: u64,
}

impl Writer {
    /// Begins; the old file stays until the end.
    pub fn create(path: &Path) -> io::Result<Writer> {
        let new = beside(path, ".new");
        let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        let mut file = Summed { inner: BufWriter::new(file), sum: Sum::default() };
        file.write_all(MAGIC)?;
        Ok(Writer { file, path: path.to_owned(), new, items: 0 })
    }

    /// Writes one item. `expires`: milliseconds of the calendar's clock, or [`NEVER`].
    pub fn item(&mut self, key: &[u8], value: &[u8], expires: u64) -> io::Result<()> {
        let key_length = u16::try_from(key.len()).map_err(io::Error::other)?;
        let value_length = u32::try_from(value.len()).map_err(io::Error::other)?;
        self.file.write_all(&key_length.to_le_bytes())?;
        self.file.write_all(&value_length.to_le_bytes())?;
        self.file.write_all(&expires.to_le_bytes())?;
        self.file.write_all(key)?;
        self.items += 1;
        self.file.write_all(value)
    }

    /// Ends, and puts the file in the place of the old one once it is on the disk.
    pub fn finish(mut self) -> io::Result<()> {
        // An item without a key ends the items.
        self.file.write_all(&[0; HEAD])?;
        self.file.write_all(&self.items.to_le_bytes())?;
        let sum = self.file.sum.0;
        let mut file = self.file.inner;
        file.write_all(&sum.to_le_bytes())?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&self.new, &self.path)
    }
}

/// Whether a file could be written there; nothing is left of the attempt.
pub fn probe(path: &Path) -> io::Result<()> {
    let writer = Writer::create(path)?;
    fs::remove_file(writer.new)
}

/// Reads a file: checks the whole of it, then shows each item, `(key, value, expires)`. `Ok(false)`: there is none. An error
/// that is [`ErrorKind::InvalidData`] is the file's own fault.
pub fn read(path: &Path, mut show: impl FnMut(&[u8], &[u8], u64) -> io::Result<()>) -> io::Result<bool> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        opened => opened?,
    };
    let size = file.metadata()?.len();
    pass(&file, size, |_, _, _| Ok(()))?;
    io::Seek::rewind(&mut &file)?;
    pass(&file, size, &mut show)?;
    Ok(true)
}

/// Puts a broken file aside, and says where it is now.
pub fn put_aside(path: &Path) -> io::Result<PathBuf> {
    let aside = beside(path, ".broken");
    fs::rename(path, &aside)?;
    Ok(aside)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn pass(file: &File, size: u64, mut show: impl FnMut(&[u8], &[u8], u64) -> io::Result<()>) -> io::Result<()> {
    let mut file = Summed { inner: BufReader::new(file), sum: Sum::default() };
    let mut magic = [0; MAGIC.len()];
    file.fill(&mut magic)?;
    if &magic != MAGIC {
        return Err(broken("it does not begin like one"));
    }
    let (mut key, mut value, mut items) = (Vec::new(), Vec::new(), 0_u64);
    loop {
        let (mut key_length, mut value_length, mut expires) = ([0; 2], [0; 4], [0; 8]);
        file.fill(&mut key_length)?;
        file.fill(&mut value_length)?;
        file.fill(&mut expires)?;
        let (key_length, value_length) = (u16::from_le_bytes(key_length), u32::from_le_bytes(value_length));
        if key_length == 0 {
            break;
        }
        if u64::from(value_length) > size {
            return Err(broken("an item is longer than the file"));
        }
        key.resize(key_length.into(), 0);
        value.resize(value_length as usize, 0);
        file.fill(&mut key)?;
        file.fill(&mut value)?;
        show(&key, &value, u64::from_le_bytes(expires))?;
        items += 1;
    }
    let (mut counted, mut sum) = ([0; 8], [0; 8]);
    file.fill(&mut counted)?;
    let expected = file.sum.0;
    file.inner.read_exact(&mut sum).map_err(short)?;
    if u64::from_le_bytes(counted) != items || u64::from_le_bytes(sum) != expected {
        return Err(broken("its check sum is wrong"));
    }
    Ok(())
}

fn broken(why: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why)
}

fn short(error: io::Error) -> io::Error {
    if error.kind() == ErrorKind::UnexpectedEof { broken("it ends too early") } else { error }
}

/// What is read or written, and its sum so far.
struct Summed<F> {
    inner: F,
    sum: Sum,
}

impl<F: Write> Summed<F> {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.add(bytes);
        self.inner.write_all(bytes)
    }
}

impl<F: Read> Summed<F> {
    fn fill(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.inner.read_exact(bytes).map_err(short)?;
        self.sum.add(bytes);
        Ok(())
    }
}

/// FNV-1a with 64 bits: against accidents, not against people, who could write any sum.
struct Sum(u64);

impl Default for Sum {
    fn default() -> Sum {
        Sum(0xcbf2_9ce4_8422_2325)
    }
}

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// An expiry of the stores' clock as one of the calendar's, or the other way round: `offset` is what is added.
pub fn shifted(expires: u64, offset: i64) -> u64 {
    if expires == NEVER { NEVER } else { expires.saturating_add_signed(offset).max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::testing::Scratch;

    type Item = (Vec<u8>, Vec<u8>, u64);

    fn write(path: &Path, items: &[Item]) {
        let mut writer = Writer::create(path).unwrap();
        for (key, value, expires) in items {
            writer.item(key, value, *expires).unwrap();
        }
        writer.finish().unwrap();
    }

    fn all(path: &Path) -> io::Result<Vec<Item>> {
        let mut items = Vec::new();
        read(path, |key, value, expires| {
            items.push((key.to_vec(), value.to_vec(), expires));
            Ok(())
        })?;
        Ok(items)
    }

    fn some() -> Vec<Item> {
        vec![
            (b"a".into(), b"1".into(), 0),
            (b"\0".into(), b"".into(), 7),
            (b"b".into(), vec![9; 70_000], u64::MAX),
        ]
    }

    #[test]
    fn items_come_back_as_they_were() {
        let scratch = Scratch::new();
        let path = scratch.path().join("cache");
        assert!(!read(&path, |_, _, _| Ok(())).unwrap());
        write(&path, &some());
        assert_eq!(all(&path).unwrap(), some());
        write(&path, &[]);
        assert_eq!(all(&path).unwrap(), []);
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
    }

    #[test]
    fn every_broken_byte_and_every_cut_is_found_before_an_item_is_shown() {
        let scratch = Scratch::new();
        let path = scratch.path().join("cache");
        write(&path, &some()[..2]);
        let good = fs::read(&path).unwrap();
        for n in 0..good.len() {
            let mut bad = good.clone();
            bad[n] ^= 0x10;
            for bytes in [&bad[..], &good[..n]] {
                fs::write(&path, bytes).unwrap();
                let error = read(&path, |_, _, _| panic!("an item of a broken file")).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidData, "{n}: {error}");
            }
        }
        assert_eq!(put_aside(&path).unwrap(), scratch.path().join("cache.broken"));
        assert!(!path.exists());
    }

    #[test]
    fn the_old_file_stays_until_the_new_one_is_whole() {
        let scratch = Scratch::new();
        let path = scratch.path().join("cache");
        write(&path, &some());
        let mut writer = Writer::create(&path).unwrap();
        writer.item(b"new", b"1", 0).unwrap();
        drop(writer);
        assert_eq!(all(&path).unwrap(), some());
    }

    #[test]
    fn an_expiry_moves_between_clocks_and_never_becomes_never() {
        assert_eq!((shifted(NEVER, 5), shifted(10, 5), shifted(10, -20)), (NEVER, 15, 1));
    }
}
