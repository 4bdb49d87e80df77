//! One file that is written with direct I/O where the file system takes it, else through the page cache.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use glommio::io::{BufferedFile, DmaBuffer, DmaFile, OpenOptions};
use pinnace_wal::BLOCK_BYTES;

use crate::DiskError;

/// How files of a directory are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Past the page cache.
    Direct,
    /// Through it: the file system refuses direct I/O.
    Buffered,
}

#[derive(Debug)]
enum Handle {
    Direct(DmaFile),
    Buffered(BufferedFile),
}

/// An open file. Closed in the background when the last reference goes.
#[derive(Debug)]
pub(crate) struct DiskFile {
    handle: Handle,
    path: PathBuf,
}

/// Bytes on their way to a file, owned by the write.
#[derive(Debug)]
pub(crate) enum Copy {
    Direct(DmaBuffer),
    Buffered(Vec<u8>),
}

impl Copy {
    fn len(&self) -> usize {
        match self {
            Self::Direct(buffer) => buffer.len(),
            Self::Buffered(bytes) => bytes.len(),
        }
    }
}

impl Access {
    /// Finds out by writing a block to a file of its own, which is removed again.
    pub(crate) async fn probe(directory: &Path) -> Result<Self, DiskError> {
        let path = directory.join("probe.tmp");
        let tried = async {
            let file = DiskFile::create(&path, Self::Direct).await?;
            file.write(&vec![0; BLOCK_BYTES as usize], 0).await?;
            file.sync().await
        };
        let access = match tried.await {
            Ok(()) => Ok(Self::Direct),
            Err(error) if error.is_unsupported() => Ok(Self::Buffered),
            Err(error) => Err(error),
        };
        // It is there unless making it was what failed.
        let _ = std::fs::remove_file(&path);
        access
    }
}

impl DiskFile {
    /// Makes the file, or empties the one that is there.
    pub(crate) async fn create(path: &Path, access: Access) -> Result<Self, DiskError> {
        Self::open_with(path, access, true).await
    }

    /// Opens a file as it is.
    pub(crate) async fn open(path: &Path, access: Access) -> Result<Self, DiskError> {
        Self::open_with(path, access, false).await
    }

    async fn open_with(path: &Path, access: Access, fresh: bool) -> Result<Self, DiskError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(fresh).truncate(fresh).mode(0o640);
        let handle = match access {
            Access::Direct => options.dma_open(path).await.map(Handle::Direct),
            Access::Buffered => options.buffered_open(path).await.map(Handle::Buffered),
        };
        let action = if fresh { "create" } else { "open" };
        let handle = handle.map_err(DiskError::glommio(action, path))?;
        Ok(Self { handle, path: path.to_owned() })
    }

    /// The bytes in memory that the kernel writes from.
    pub(crate) fn copy(&self, bytes: &[u8]) -> Copy {
        match &self.handle {
            Handle::Direct(file) => {
                let mut buffer = file.alloc_dma_buffer(bytes.len());
                buffer.as_bytes_mut().copy_from_slice(bytes);
                Copy::Direct(buffer)
            }
            Handle::Buffered(_) => Copy::Buffered(bytes.to_vec()),
        }
    }

    /// Writes bytes; their number and `offset` must be multiples of a block.
    pub(crate) async fn write(&self, bytes: &[u8], offset: u64) -> Result<(), DiskError> {
        self.write_copy(self.copy(bytes), offset).await
    }

    /// Writes a copy that was made for this file. It is not safe before a sync.
    pub(crate) async fn write_copy(&self, copy: Copy, offset: u64) -> Result<(), DiskError> {
        let len = copy.len();
        let written = match (&self.handle, copy) {
            (Handle::Direct(file), Copy::Direct(buffer)) => file.write_at(buffer, offset).await,
            (Handle::Buffered(file), Copy::Buffered(bytes)) => file.write_at(bytes, offset).await,
            _ => unreachable!("the copy was made for this file"),
        }
        .map_err(DiskError::glommio("write to", &self.path))?;
        if written == len {
            return Ok(());
        }
        // The rest would meet the error that cut this one short; what is known now is enough.
        let text = format!("only {written} of {len} bytes were taken at offset {offset}");
        Err(DiskError::new("write to", &self.path, std::io::Error::other(text)))
    }

    /// Makes everything last whose write has ended before this is called.
    pub(crate) async fn sync(&self) -> Result<(), DiskError> {
        match &self.handle {
            Handle::Direct(file) => file.fdatasync().await,
            Handle::Buffered(file) => file.fdatasync().await,
        }
        .map_err(DiskError::glommio("sync", &self.path))
    }

    /// Takes the space of the whole file now. A file system that cannot do that is no error: writing does it.
    pub(crate) async fn allocate(&self, bytes: u64) -> Result<(), DiskError> {
        let allocated = match &self.handle {
            Handle::Direct(file) => file.pre_allocate(bytes, false).await,
            Handle::Buffered(file) => file.pre_allocate(bytes, false).await,
        };
        match allocated.map_err(DiskError::glommio("allocate space for", &self.path)) {
            Err(error) if !error.is_unsupported() => Err(error),
            _ => Ok(()),
        }
    }

    /// The file under its new name, which is not safe before the directory is synced.
    pub(crate) async fn rename(self: Rc<Self>, to: &Path) -> Result<Rc<Self>, DiskError> {
        glommio::io::rename(&self.path, to).await.map_err(DiskError::glommio("rename", &self.path))?;
        let file = Rc::into_inner(self).expect("a file is renamed before anybody else has it");
        Ok(Rc::new(Self { path: to.to_owned(), ..file }))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Makes the names in a directory last.
pub(crate) async fn sync_names(path: &Path) -> Result<(), DiskError> {
    let directory = glommio::io::Directory::open(path).await.map_err(DiskError::glommio("open", path))?;
    let synced = directory.sync().await.map_err(DiskError::glommio("sync", path));
    // What matters of it is done.
    let _ = directory.close().await;
    synced
}
