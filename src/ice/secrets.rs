//! The secrets that external TURN servers know as well, in files that are looked at again while the server runs.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use tracing::{error, info};

/// What a TURN server calls `static-auth-secret`. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

/// Why a file is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path:?} {problem}")]
pub struct SecretError {
    path: PathBuf,
    problem: String,
    /// Is there no such file?
    is_gone: bool,
}

/// Files with a secret each, of which the first that is there signs.
pub struct SecretFiles {
    files: Vec<PathBuf>,
    signing: ArcSwap<Secret>,
    /// What they held when they were last looked at, good or not.
    seen: Mutex<Vec<Result<Secret, SecretError>>>,
}

/// Bytes that a file may have.
const FILE_BYTES_MAX: usize = 4096;

impl Secret {
    /// Takes what a file holds, if that is one line.
    pub fn parse(text: &str) -> Option<Self> {
        let secret = text.trim();
        (!secret.is_empty() && !secret.contains(char::is_control)).then(|| Self(secret.into()))
    }

    /// What is signed with.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl SecretFiles {
    /// Reads them; every one has to be good. None if there are no files.
    pub fn load(files: &[PathBuf]) -> Result<Option<Arc<Self>>, SecretError> {
        let seen: Vec<_> = files.iter().map(|file| read(file)).collect();
        let Some(first) = seen.iter().cloned().collect::<Result<Vec<_>, _>>()?.into_iter().next() else { return Ok(None) };
        Ok(Some(Arc::new(Self { files: files.to_vec(), signing: ArcSwap::from_pointee(first), seen: seen.into() })))
    }

    /// The one that signs.
    pub fn signing(&self) -> Arc<Secret> {
        self.signing.load_full()
    }

    /// Looks at the files as often as told, for ever.
    pub async fn watch(self: Arc<Self>, every: Duration) {
        loop {
            tokio::time::sleep(every).await;
            let secrets = self.clone();
            // Disks may be slow, and this thread has more to do.
            tokio::task::spawn_blocking(move || secrets.refresh()).await.expect("looking at secrets does not panic");
        }
    }

    /// Takes what is new, if it is good. The last good one goes on signing where it is not.
    pub fn refresh(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for (file, seen) in self.files.iter().zip(seen.iter_mut()) {
            let found = read(file);
            if found == *seen {
                continue;
            }
            match &found {
                Ok(_) => info!(file = %file.display(), "a secret of TURN servers has changed"),
                Err(error) => error!(%error, "a secret of TURN servers is no good, where it signs the last good one stays in use"),
            }
            *seen = found;
        }
        // One that is there and no good may be half written.
        let first = self.files.iter().zip(seen.iter()).find(|(_, found)| !matches!(found, Err(SecretError { is_gone: true, .. })));
        if let Some((file, Ok(secret))) = first
            && *secret != *self.signing.load_full()
        {
            self.signing.store(Arc::new(secret.clone()));
            info!(file = %file.display(), "a new secret signs the credentials of TURN servers");
        }
    }
}

fn read(path: &Path) -> Result<Secret, SecretError> {
    let fault = |problem: String| SecretError { path: path.to_owned(), problem, is_gone: false };
    let bytes = fs::read(path).map_err(|error| {
        let is_gone = error.kind() == io::ErrorKind::NotFound;
        SecretError { is_gone, ..fault(format!("cannot be read: {error}")) }
    })?;
    let text = String::from_utf8(bytes).ok().filter(|text| text.len() <= FILE_BYTES_MAX);
    text.and_then(|text| Secret::parse(&text)).ok_or_else(|| fault("holds no secret of one line".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_file_signs_and_a_new_one_is_taken_if_it_is_good() {
        let directory = tempfile::tempdir().unwrap();
        let files = ["a", "b"].map(|name| directory.path().join(name));
        fs::write(&files[0], "north\n").unwrap();
        fs::write(&files[1], "south").unwrap();
        let secrets = SecretFiles::load(&files).unwrap().unwrap();
        let signs = || String::from_utf8(secrets.signing().as_bytes().to_vec()).unwrap();
        assert_eq!(signs(), "north");
        for (text, expected) in [("east\n", "east"), ("", "east"), ("two\nlines", "east"), ("west", "west")] {
            fs::write(&files[0], text).unwrap();
            secrets.refresh();
            assert_eq!(signs(), expected, "{text:?}");
        }
    }

    /// One of several files was read and never signed, whatever became of those before it.
    #[test]
    fn the_next_file_signs_when_the_first_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let files = ["a", "b"].map(|name| directory.path().join(name));
        fs::write(&files[0], "north").unwrap();
        fs::write(&files[1], "south").unwrap();
        let secrets = SecretFiles::load(&files).unwrap().unwrap();
        let signs = || {
            secrets.refresh();
            String::from_utf8(secrets.signing().as_bytes().to_vec()).unwrap()
        };
        fs::remove_file(&files[0]).unwrap();
        assert_eq!(signs(), "south");
        fs::write(&files[1], "").unwrap();
        assert_eq!(signs(), "south", "the last good one");
        fs::write(&files[1], "east").unwrap();
        assert_eq!(signs(), "east");
        fs::write(&files[0], "").unwrap();
        assert_eq!(signs(), "east", "the first may be half written");
        fs::write(&files[0], "west").unwrap();
        assert_eq!(signs(), "west");
        fs::remove_file(&files[0]).unwrap();
        fs::remove_file(&files[1]).unwrap();
        assert_eq!(signs(), "west");
    }

    #[test]
    fn a_file_without_a_secret_is_told_by_its_name_and_not_by_what_it_holds() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("secret");
        fs::write(&file, "two\nlines").unwrap();
        let told = SecretFiles::load(std::slice::from_ref(&file)).err().unwrap().to_string();
        assert_eq!(told, format!("{file:?} holds no secret of one line"));
        let told = SecretFiles::load(&[directory.path().join("none")]).err().unwrap().to_string();
        assert!(told.contains("none\" cannot be read: "), "{told}");
        assert!(SecretFiles::load(&[]).unwrap().is_none());
        assert_eq!(format!("{:?}", Secret::parse("wordpass")), "Some(Secret)");
    }
}
