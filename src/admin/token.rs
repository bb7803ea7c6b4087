//! The secret of whoever runs the server: made on the first start, kept in a file, compared without telling how much of it is right.

use std::{
    fmt,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use subtle::ConstantTimeEq as _;
use tracing::{info, warn};

/// The token. Never logged: its `Debug` shows nothing of it.
pub struct Token(String);

/// The file of the token is of no use.
#[derive(Debug, thiserror::Error)]
#[error("{} {problem}", path.display())]
pub struct TokenError {
    path: PathBuf,
    problem: String,
}

/// Whoever writes a token by hand should not be able to write one that can be guessed.
const BYTES_MIN: usize = 16;
/// What `Authorization` holds is bounded, too.
const BYTES_MAX: usize = 1024;

impl Token {
    /// Reads the token; makes one if there is no such file.
    pub fn load(path: &Path) -> Result<Self, TokenError> {
        let fail = |problem: String| TokenError { path: path.to_owned(), problem };
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let text = make(path).map_err(|error| fail(format!("cannot be written: {error}")))?;
                info!(path = %path.display(), "a token for the administration was made");
                text
            }
            read => read.map_err(|error| fail(format!("cannot be read: {error}")))?,
        };
        let token = text.trim();
        if !(BYTES_MIN..=BYTES_MAX).contains(&token.len()) || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(fail(format!("holds no token, which is {BYTES_MIN} to {BYTES_MAX} characters of ASCII without spaces")));
        }
        if fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o077 != 0) {
            warn!(path = %path.display(), "others than its owner may read or write the token of the administration: chmod 600");
        }
        Ok(Self(token.to_owned()))
    }

    /// Is it this one? Takes as long for every token of its length.
    pub fn is(&self, token: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(token).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(secret)")
    }
}

fn make(path: &Path) -> io::Result<String> {
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        fs::create_dir_all(directory)?;
    }
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    let text = BASE64_URL_SAFE_NO_PAD.encode(bytes) + "\n";
    // One that another server has just made is not replaced, and nobody else can ever read this one.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_made_once_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/admin-token");
        let token = Token::load(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(text.len() > 40 && token.is(text.trim().as_bytes()));
        assert!(Token::load(&path).unwrap().is(text.trim().as_bytes()));
        assert!(!token.is(text.as_bytes()) && !token.is(b"") && !token.is(&text.as_bytes()[..42]));
        assert!(!format!("{token:?}").contains(text.trim()));
        assert_ne!(Token::load(&directory.path().join("other")).unwrap().0, token.0);
    }

    #[test]
    fn a_file_that_holds_no_token_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        for text in ["", "short\n", "with spaces in between it", "línea de más de dieciséis", &"x".repeat(2000)] {
            fs::write(&path, text).unwrap();
            let error = Token::load(&path).unwrap_err().to_string();
            assert!(error.starts_with(&path.display().to_string()) && error.contains("holds no token"), "{error}");
        }
        assert!(Token::load(directory.path()).unwrap_err().to_string().contains("cannot be read"));
    }
}
