//! The data directory: made and tried out before it is needed.

use std::fs;
use std::path::Path;

use crate::failure::Failure;

/// Makes sure that the directory exists and can be written to.
///
/// # Errors
/// [`Failure::DataDir`] with the system's reason.
pub(crate) fn prepare(directory: &Path) -> Result<(), Failure> {
    let shown = directory.display();
    fs::create_dir_all(directory).map_err(|error| {
        Failure::DataDir(format!(
            "cannot make the data directory {shown}: {error}; choose another --data-dir or change the rights of its \
             parent"
        ))
    })?;
    let probe = directory.join(".pinnace-write-test");
    fs::write(&probe, b"").and_then(|()| fs::remove_file(&probe)).map_err(|error| {
        Failure::DataDir(format!(
            "cannot write to the data directory {shown}: {error}; choose another --data-dir or give this user the \
             right to write there"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::prepare;

    #[test]
    fn a_directory_is_made_and_left_empty() {
        let directory = std::env::temp_dir().join(format!("pinnace-data-dir-{}", std::process::id()));
        prepare(&directory.join("deep")).unwrap();
        assert_eq!(std::fs::read_dir(directory.join("deep")).unwrap().count(), 0);
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_file_in_its_place_is_an_error_with_its_name() {
        let error = prepare(std::path::Path::new("/proc/version")).unwrap_err().to_string();
        assert!(error.contains("/proc/version") && error.contains("--data-dir"), "{error}");
    }
}
