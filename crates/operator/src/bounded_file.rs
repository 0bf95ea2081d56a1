//! Small text files, such as those of a mounted Secret or ConfigMap.

use std::{
    io,
    path::{Path, PathBuf},
};

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("{path} cannot be read")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} is larger than {limit} bytes")]
    TooLarge { path: PathBuf, limit: u64 },
}

/// Reads a file of at most `limit` bytes.
pub async fn read_text(path: &Path, limit: u64) -> Result<String, ReadError> {
    let read = async {
        if tokio::fs::metadata(path).await?.len() > limit {
            return Ok(None);
        }
        tokio::fs::read_to_string(path).await.map(Some)
    };
    match read.await {
        Ok(Some(text)) => Ok(text),
        Ok(None) => Err(ReadError::TooLarge { path: path.to_owned(), limit }),
        Err(source) => Err(ReadError::Read { path: path.to_owned(), source }),
    }
}
