//! The keys and scripts in Redis.

use std::{
    fmt::Display,
    sync::{Arc, LazyLock},
};

use redis::{Cmd, Pipeline, Script};

/// The channel for changes between replicas; see [`crate::message`].
pub(crate) const CHANGES: &str = "holdfast:product:changes";

/// The channel of a replica's own ticks; see [`crate::subscription`].
pub(crate) fn ticks(replica: &str) -> String {
    format!("holdfast:product:ticks:{replica}")
}

/// The hash tag of all keys in a Redis Cluster. So one of its servers has all of them: scripts use many keys, and
/// messages must arrive in the order in which they were published.
pub(crate) const TAG: &str = "products";

/// What the keys of one server process and one database have in common; the crate's documentation explains why.
#[derive(Clone)]
pub(crate) struct KeySpace {
    /// The server process, and the database if it is known.
    suffix: Arc<str>,
    /// Whether keys have the hash tag.
    tagged: bool,
}

/// The keys of this server process and this database, if it is known.
pub(crate) fn space(run: &str, database: Option<&str>, tagged: bool) -> KeySpace {
    let suffix = database.map_or_else(|| run.into(), |database| format!("{run}:{database}").into());
    KeySpace { suffix, tagged }
}

/// The hash of one product.
pub(crate) fn key(space: &KeySpace, id: i64) -> String {
    named(space, id)
}

/// All products' hashes, for SCAN.
pub(crate) fn pattern(space: &KeySpace) -> String {
    named(space, "*")
}

fn named(KeySpace { suffix, tagged }: &KeySpace, id: impl Display) -> String {
    if *tagged {
        format!("holdfast:{{{TAG}}}:{id}:{suffix}")
    } else {
        format!("holdfast:{{product:{id}}}:{suffix}")
    }
}

// The fields of a product's hash:
//   n  nonce: the lease that a fill must present
//   f  fence: older versions than this are rejected
//   v  the version of the value
//   d  the value: the response body
//   t  a time at which the value was true: this server's time in ms, before the database was read
//
// Numbers are compared as Lua's doubles, which are exact below 2^53.
//
// A key or field that another program has written counts as missing; a key of another type is deleted.
//
// A write that Redis refuses (out of memory under `noeviction`) must not fail the script. If a lease cannot be
// written, the reader gets none. If a fence cannot be written, the key is deleted instead, which needs no memory and
// also revokes the lease.

/// KEYS: the hash. ARGV: a fresh nonce, the lease in ms, the maximum age in ms. Answers `{1, version, body, ms until
/// it is too old}` or `{0, fence, nonce, time}`, with an empty nonce if nothing may be filled in. A value that is
/// too old, or from a clock that is ahead, is ignored; its version counts as a fence.
pub(crate) static READ: Lua = Lua { code: READ_CODE, hash: LazyLock::new(|| hash(READ_CODE)) };
const READ_CODE: &str = r"
local e = redis.pcall('HMGET', KEYS[1], 'd', 'v', 'n', 'f', 't')
if e.err then
  redis.call('UNLINK', KEYS[1])
  e = {}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local fence = tonumber(e[4] or 0) or 0
local version = e[2] and tonumber(e[2])
if e[1] and version then
  local left = tonumber(ARGV[3]) - (now - (tonumber(e[5] or 0) or 0))
  if left > 0 and left <= tonumber(ARGV[3]) then
    return {1, version, e[1], left}
  end
  fence = math.max(fence, version)
end
local n = e[3]
if not n then
  local new = redis.call('EXISTS', KEYS[1]) == 0
  local set = redis.pcall('HSET', KEYS[1], 'n', ARGV[1])
  if type(set) == 'table' then
    return {0, fence, '', now}
  end
  n = ARGV[1]
  if new then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
  end
end
return {0, fence, n, now}
";

/// KEYS: the hash. ARGV: nonce, version, ms to live, body, the time of [`READ`]. Answers 1 if the value was written.
pub(crate) static FILL: Lua = Lua { code: FILL_CODE, hash: LazyLock::new(|| hash(FILL_CODE)) };
const FILL_CODE: &str = r"
local e = redis.pcall('HMGET', KEYS[1], 'n', 'f', 'v')
if e.err then
  redis.call('UNLINK', KEYS[1])
  return 0
end
local version = tonumber(ARGV[2])
local fence, held = tonumber(e[2] or 0) or 0, tonumber(e[3] or 0) or 0
if e[1] ~= ARGV[1] or version < fence or version < held then
  return 0
end
local set = redis.pcall('HSET', KEYS[1], 'v', ARGV[2], 'd', ARGV[4], 't', ARGV[5])
if type(set) == 'table' then
  return 0
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
";

/// KEYS: hashes. ARGV: ms to live, then a version for each hash. Idempotent and independent of the order: the
/// highest version counts. It raises many hashes at once, because a call for each would cost more than the work.
pub(crate) static RAISE: Lua = Lua { code: RAISE_CODE, hash: LazyLock::new(|| hash(RAISE_CODE)) };
const RAISE_CODE: &str = r"
for i, key in ipairs(KEYS) do
  local e = redis.pcall('HMGET', key, 'f', 'v')
  if e.err then
    redis.call('UNLINK', key)
    e = {}
  end
  local version = tonumber(ARGV[i + 1])
  local held = e[2] and tonumber(e[2])
  if version > (tonumber(e[1] or 0) or 0) then
    local set = redis.pcall('HSET', key, 'f', ARGV[i + 1])
    if type(set) == 'table' then
      redis.call('UNLINK', key)
      held = version
    elseif not held or held < version then
      redis.call('PEXPIRE', key, ARGV[1])
    end
  end
  if held and held < version then
    redis.call('HDEL', key, 'v', 'd')
    redis.call('PEXPIRE', key, ARGV[1])
  end
end
";

/// The most hashes of one [`RAISE`], because a script blocks all other clients.
pub(crate) const RAISE_KEYS: usize = 64;

/// A script and its SHA-1.
pub(crate) struct Lua {
    code: &'static str,
    hash: LazyLock<String>,
}

fn hash(code: &str) -> String {
    Script::new(code).get_hash().to_owned()
}

/// Loads all scripts into a server.
pub(crate) fn load_scripts() -> Pipeline {
    let mut pipeline = Pipeline::new();
    for lua in [&READ, &FILL, &RAISE] {
        pipeline.cmd("SCRIPT").arg("LOAD").arg(lua.code).ignore();
    }
    pipeline
}

/// Calls [`RAISE`] on at most [`RAISE_KEYS`] products.
pub(crate) fn raise(space: &KeySpace, fences: &[(i64, i64)], ttl_ms: u64) -> Cmd {
    let mut command = redis::cmd("EVALSHA");
    command.arg(RAISE.hash.as_str()).arg(fences.len());
    for (id, _) in fences {
        command.arg(key(space, *id));
    }
    command.arg(ttl_ms);
    for (_, version) in fences {
        command.arg(*version);
    }
    command
}

/// Calls a script on one product's hash; more arguments may be added.
pub(crate) fn call(lua: &Lua, space: &KeySpace, id: i64) -> Cmd {
    let mut command = redis::cmd("EVALSHA");
    command.arg(lua.hash.as_str()).arg(1).arg(key(space, id));
    command
}
