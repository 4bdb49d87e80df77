//! The bodies of HELLO: who the client is and wants, what the node is and grants.

use super::{Features, Header, Opcode, Status, encode};

/// Credentials as the client sends them; empty: none. Nodes without authentication ignore them.
pub type AuthSlot<'a> = &'a [u8];

/// The value of a HELLO request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HelloRequest<'a> {
    /// What the client can do and would like to use.
    pub features: Features,
    /// The core it would like to be served by, or [`super::ANY_CORE`].
    pub wanted_core: u16,
    /// Credentials.
    pub auth: AuthSlot<'a>,
    /// What the client calls itself, for lists of connections.
    pub client_name: &'a [u8],
}

/// Bytes of a HELLO request's value before the variable part.
const REQUEST_BYTES: usize = 16;

impl<'a> HelloRequest<'a> {
    /// Appends the request.
    ///
    /// # Panics
    /// If credentials or name are longer than 65,535 bytes.
    pub fn encode(&self, out: &mut Vec<u8>, request_id: u32) {
        let mut body = Vec::with_capacity(REQUEST_BYTES + self.auth.len() + self.client_name.len());
        body.extend_from_slice(&self.features.0.to_le_bytes());
        body.extend_from_slice(&self.wanted_core.to_le_bytes());
        body.extend_from_slice(&len16(self.auth).to_le_bytes());
        body.extend_from_slice(&len16(self.client_name).to_le_bytes());
        body.extend_from_slice(&[0; 2]);
        body.extend_from_slice(self.auth);
        body.extend_from_slice(self.client_name);
        encode(out, &Header::request(Opcode::HELLO, request_id), &[], &body);
    }

    /// Reads the value of a request; `None` if it is malformed. Bytes behind the last known field
    /// belong to a later version and are ignored.
    #[must_use]
    pub fn decode(value: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(value);
        let features = Features(reader.u64()?);
        let wanted_core = reader.u16()?;
        let (auth_len, name_len) = (reader.u16()?, reader.u16()?);
        reader.u16()?;
        Some(Self {
            features,
            wanted_core,
            auth: reader.bytes(auth_len)?,
            client_name: reader.bytes(name_len)?,
        })
    }
}

/// The value of a HELLO reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HelloReply {
    /// What both sides can do; nothing else may be used.
    pub features: Features,
    /// Longest value.
    pub value_bytes_max: u32,
    /// Longest key.
    pub key_bytes_max: u16,
    /// The core that serves this connection.
    pub this_core: u16,
    /// Requests of one connection that may be unanswered; more are read later.
    pub in_flight_max: u32,
    /// This node; 0 while it is alone.
    pub node_id: u64,
    /// Age of the slot map; 0 while the node is alone.
    pub epoch: u64,
    /// A port per core on which that core alone listens, 0: none.
    pub core_ports: Vec<u16>,
    /// The core that owns each shard.
    pub shard_cores: Vec<u16>,
    /// Name and version of the node's program.
    pub server: String,
}

impl HelloReply {
    /// Appends the reply.
    ///
    /// # Panics
    /// If there are more than 65,535 cores or shards, or the server's name is longer.
    pub fn encode(&self, out: &mut Vec<u8>, request_id: u32) {
        let mut body = Vec::with_capacity(64 + 2 * (self.core_ports.len() + self.shard_cores.len()));
        body.extend_from_slice(&self.features.0.to_le_bytes());
        body.extend_from_slice(&self.value_bytes_max.to_le_bytes());
        body.extend_from_slice(&self.key_bytes_max.to_le_bytes());
        body.extend_from_slice(&self.this_core.to_le_bytes());
        body.extend_from_slice(&self.node_id.to_le_bytes());
        body.extend_from_slice(&self.epoch.to_le_bytes());
        body.extend_from_slice(&self.in_flight_max.to_le_bytes());
        body.extend_from_slice(&len16(&self.core_ports).to_le_bytes());
        body.extend_from_slice(&len16(&self.shard_cores).to_le_bytes());
        body.extend_from_slice(&len16(self.server.as_bytes()).to_le_bytes());
        body.extend_from_slice(&[0; 6]);
        for number in self.core_ports.iter().chain(&self.shard_cores) {
            body.extend_from_slice(&number.to_le_bytes());
        }
        body.extend_from_slice(self.server.as_bytes());
        encode(out, &Header::reply(Opcode::HELLO, request_id, Status::OK), &[], &body);
    }

    /// Reads the value of a reply; `None` if it is malformed. Bytes behind the last known field
    /// belong to a later version and are ignored.
    #[must_use]
    pub fn decode(value: &[u8]) -> Option<Self> {
        let mut reader = Reader(value);
        let features = Features(reader.u64()?);
        let value_bytes_max = reader.u32()?;
        let (key_bytes_max, this_core) = (reader.u16()?, reader.u16()?);
        let (node_id, epoch) = (reader.u64()?, reader.u64()?);
        let in_flight_max = reader.u32()?;
        let (cores, shards, server_len) = (reader.u16()?, reader.u16()?, reader.u16()?);
        reader.bytes(6)?;
        Some(Self {
            features,
            value_bytes_max,
            key_bytes_max,
            this_core,
            in_flight_max,
            node_id,
            epoch,
            core_ports: reader.u16s(cores)?,
            shard_cores: reader.u16s(shards)?,
            server: String::from_utf8(reader.bytes(server_len)?.to_vec()).ok()?,
        })
    }
}

fn len16<T>(items: &[T]) -> u16 {
    u16::try_from(items.len()).expect("lists and names of a greeting are bounded by 65,535")
}

/// Takes fields from the front of a body; `None` when it is too short.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*array)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn bytes(&mut self, len: u16) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(usize::from(len))?;
        self.0 = rest;
        Some(bytes)
    }

    fn u16s(&mut self, count: u16) -> Option<Vec<u16>> {
        let bytes = self.bytes_of(usize::from(count) * 2)?;
        Some(bytes.as_chunks::<2>().0.iter().map(|pair| u16::from_le_bytes(*pair)).collect())
    }

    fn bytes_of(&mut self, len: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }
}
