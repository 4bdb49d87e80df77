//! What a backup says of itself: `manifest.json`, written last.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value};

use super::check::Checked;

/// The newest form of a backup that this program knows.
pub(super) const FORMAT: u64 = 1;
/// Its name within a backup.
pub(super) const NAME: &str = "manifest.json";

/// What `manifest.json` holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Manifest {
    pub(super) format: u64,
    /// The version of the program that made the backup.
    pub(super) pinnace: String,
    pub(super) node_id: u64,
    /// The last run that a snapshot is of.
    pub(super) run: u64,
    pub(super) created_unix_ms: u64,
    pub(super) cores: u16,
    pub(super) shards: u16,
    pub(super) files: Vec<ManifestFile>,
    /// CRC32C of all of the above, in hexadecimal.
    pub(super) crc32c: String,
}

/// A snapshot file of one core.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct ManifestFile {
    pub(super) name: String,
    /// As it is stored, compressed or not.
    pub(super) bytes: u64,
    /// CRC32C of these bytes, in hexadecimal.
    pub(super) crc32c: String,
    pub(super) items: u64,
}

impl Manifest {
    /// The text of the file.
    pub(super) fn text(&self) -> String {
        let mut whole = self.clone();
        whole.crc32c = self.checksum();
        let mut text = serde_json::to_string_pretty(&whole).expect("numbers and text are JSON");
        text.push('\n');
        text
    }

    fn checksum(&self) -> String {
        let mut bare = self.clone();
        bare.crc32c.clear();
        let text = serde_json::to_string(&bare).expect("numbers and text are JSON");
        hexadecimal(crc32c::crc32c(text.as_bytes()))
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// What is wrong, with the name of the field.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(text).map_err(|error| format!("it is no JSON: {error}"))?;
        let fields = Fields::new("", &value)?;
        let format = fields.number("format", u64::MAX)?;
        if format > FORMAT {
            return Err(format!("format: {format} is of a newer pinnace, this one knows {FORMAT}"));
        }
        let manifest = Self {
            format,
            pinnace: fields.text("pinnace")?,
            node_id: fields.number("node_id", i64::MAX as u64)?,
            run: fields.number("run", i64::MAX as u64)?,
            created_unix_ms: fields.number("created_unix_ms", u64::MAX)?,
            cores: fields.number("cores", u16::MAX.into())? as u16,
            shards: fields.number("shards", u16::MAX.into())? as u16,
            files: fields.files()?,
            crc32c: fields.checksum("crc32c")?,
        };
        fields.nothing_else(&[
            "format",
            "pinnace",
            "node_id",
            "run",
            "created_unix_ms",
            "cores",
            "shards",
            "files",
            "crc32c",
        ])?;
        if manifest.crc32c != manifest.checksum() {
            return Err("crc32c: the manifest was changed after it was written".to_owned());
        }
        Ok(manifest)
    }

    /// Compares what the files are with what they should be.
    ///
    /// # Errors
    /// The first difference.
    pub(super) fn compare(&self, found: &[Checked]) -> Result<(), String> {
        let mut shards = BTreeSet::new();
        for listed in &self.files {
            let name = &listed.name;
            let Some(file) = found.iter().find(|file| file.name == *name) else {
                return Err(format!("{name} is missing"));
            };
            let is_same = file.bytes == listed.bytes && hexadecimal(file.crc32c) == listed.crc32c;
            if !is_same {
                return Err(format!(
                    "{name} has {} bytes and checksum {}, the manifest says {} and {}",
                    file.bytes,
                    hexadecimal(file.crc32c),
                    listed.bytes,
                    listed.crc32c
                ));
            }
            if file.items != listed.items {
                return Err(format!("{name} has {} items, the manifest says {}", file.items, listed.items));
            }
            if file.info.node_id != self.node_id || file.info.shard_count != self.shards {
                return Err(format!("{name} is of another node or another number of shards"));
            }
            if let Some(twice) = file.shards.iter().find(|&&shard| !shards.insert(shard)) {
                return Err(format!("{name} holds shard {twice}, as another file does"));
            }
        }
        if let Some(extra) =
            found.iter().find(|file| self.files.iter().all(|listed| listed.name != file.name))
        {
            return Err(format!("{} is not in the manifest", extra.name));
        }
        match (0..self.shards).find(|shard| !shards.contains(shard)) {
            Some(missing) => Err(format!("no file holds shard {missing}")),
            None => Ok(()),
        }
    }
}

/// Eight digits.
pub(super) fn hexadecimal(crc: u32) -> String {
    format!("{crc:08x}")
}

/// The fields of an object of the manifest.
struct Fields<'v> {
    /// What stands before a field's name in a message.
    prefix: String,
    map: &'v Map<String, Value>,
}

impl<'v> Fields<'v> {
    fn new(prefix: &str, value: &'v Value) -> Result<Self, String> {
        let map = value.as_object().ok_or_else(|| format!("{prefix}{{}}: not an object"))?;
        Ok(Self { prefix: prefix.to_owned(), map })
    }

    fn get(&self, name: &str) -> Result<&'v Value, String> {
        self.map.get(name).ok_or_else(|| format!("{}{name}: missing", self.prefix))
    }

    fn number(&self, name: &str, max: u64) -> Result<u64, String> {
        let value = self.get(name)?;
        let number = value.as_u64().filter(|&number| number <= max);
        number.ok_or_else(|| format!("{}{name}: {value} is not a number from 0 to {max}", self.prefix))
    }

    fn text(&self, name: &str) -> Result<String, String> {
        let value = self.get(name)?;
        let text = value.as_str().map(str::to_owned);
        text.ok_or_else(|| format!("{}{name}: {value} is not a text", self.prefix))
    }

    fn checksum(&self, name: &str) -> Result<String, String> {
        let text = self.text(name)?;
        let is_sound = text.len() == 8 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if is_sound {
            Ok(text)
        } else {
            Err(format!("{}{name}: {text:?} is not 8 hexadecimal digits", self.prefix))
        }
    }

    fn files(&self) -> Result<Vec<ManifestFile>, String> {
        let value = self.get("files")?;
        let list = value.as_array().ok_or_else(|| "files: not a list".to_owned())?;
        let file = |(index, value)| {
            let fields = Fields::new(&format!("files[{index}]."), value)?;
            let file = ManifestFile {
                name: fields.text("name")?,
                bytes: fields.number("bytes", i64::MAX as u64)?,
                crc32c: fields.checksum("crc32c")?,
                items: fields.number("items", u64::MAX)?,
            };
            if super::FileName::parse(&file.name).is_none() {
                return Err(format!("files[{index}].name: {:?} is not the name of a snapshot", file.name));
            }
            fields.nothing_else(&["name", "bytes", "crc32c", "items"]).map(|()| file)
        };
        list.iter().enumerate().map(file).collect()
    }

    fn nothing_else(&self, known: &[&str]) -> Result<(), String> {
        match self.map.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(format!("{}{key}: not known", self.prefix)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Manifest, ManifestFile};
    use serde_json::Value;

    fn manifest() -> Manifest {
        Manifest {
            format: 1,
            pinnace: "0.1.0".to_owned(),
            node_id: 77,
            run: 3,
            created_unix_ms: 1_700_000_000_000,
            cores: 1,
            shards: 4,
            files: vec![ManifestFile {
                name: "snapshots/core-0000/0000000000000001.snap".to_owned(),
                bytes: 4096,
                crc32c: "0123abcd".to_owned(),
                items: 12,
            }],
            crc32c: String::new(),
        }
    }

    /// The complaint about the manifest after a change.
    fn complaint(change: impl FnOnce(&mut Value)) -> String {
        let mut value: Value = serde_json::from_str(&manifest().text()).unwrap();
        change(&mut value);
        Manifest::parse(value.to_string().as_bytes()).unwrap_err()
    }

    #[test]
    fn what_was_written_is_read_again() {
        let text = manifest().text();
        let read = Manifest::parse(text.as_bytes()).unwrap();
        assert_eq!(Manifest { crc32c: String::new(), ..read }, manifest());
    }

    #[test]
    fn bad_input_names_the_field() {
        for field in
            ["format", "pinnace", "node_id", "run", "created_unix_ms", "cores", "shards", "files", "crc32c"]
        {
            let without = complaint(|value| _ = value.as_object_mut().unwrap().remove(field));
            assert!(without.starts_with(field) && without.contains("missing"), "{without}");
            let wrong = complaint(|value| value[field] = Value::Bool(true));
            assert!(wrong.starts_with(field), "{wrong}");
        }
        for field in ["name", "bytes", "crc32c", "items"] {
            let without = complaint(|value| _ = value["files"][0].as_object_mut().unwrap().remove(field));
            assert_eq!(without, format!("files[0].{field}: missing"));
            let wrong = complaint(|value| value["files"][0][field] = Value::from(-1));
            assert!(wrong.starts_with(&format!("files[0].{field}: ")), "{wrong}");
        }
        assert!(complaint(|value| value["cores"] = Value::from(70_000)).starts_with("cores: 70000"));
        assert!(complaint(|value| value["format"] = Value::from(2)).contains("newer"));
        assert!(complaint(|value| value["more"] = Value::from(2)).starts_with("more: not known"));
        assert!(complaint(|value| value["created_unix_ms"] = Value::from(2)).starts_with("crc32c"));
    }

    #[test]
    fn names_cannot_lead_out_of_the_backup() {
        for name in ["../../etc/passwd", "/etc/passwd", "snapshots/core-0000/../1.snap", "manifest.json", ""]
        {
            let text = complaint(|value| value["files"][0]["name"] = Value::from(name));
            assert!(text.starts_with("files[0].name: "), "{text}");
        }
    }

    #[test]
    fn cut_text_is_no_manifest() {
        let text = manifest().text();
        for len in 0..text.len() - 1 {
            assert!(Manifest::parse(&text.as_bytes()[..len]).is_err(), "{len}");
        }
    }
}
