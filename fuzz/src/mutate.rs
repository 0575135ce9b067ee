//! Changes to inputs that keep their structure: members of zip archives with right sums, JSON that parses, lengths of
//! protocol buffers and of safetensors headers that hold, opcodes of pickles that are whole. Three of ten changes are
//! libFuzzer's own.

use std::io::{Cursor, Read, Write};

use libfuzzer_sys::fuzzer_mutate;
use serde_json::Value;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// A changed input for a target, in place; gives its length.
pub fn mutate(target: &str, data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut random = Random(u64::from(seed));
    let changed = if random.below(10) < 3 {
        None
    } else {
        let now = &data[..size];
        match target {
            "npz" | "reference" => zip(now, &mut random, &|bytes, random| raw(bytes, random)),
            "torch" | "script" => zip(now, &mut random, &|bytes, random| pickle(bytes, random)),
            "legacy" => Some(pickle(now, &mut random)),
            "safetensors" => safetensors(now, &mut random),
            "onnx" | "verify" => Some(protobuf(now, &mut random, 0)),
            "index" | "config" | "transformers" | "processor" | "open_clip" | "manifest" | "tokenizer" => {
                json(now, &mut random)
            }
            "partial" => lines(now, &mut random),
            _ => None,
        }
    };
    match changed.filter(|changed| changed.len() <= max_size) {
        Some(changed) => {
            data[..changed.len()].copy_from_slice(&changed);
            changed.len()
        }
        None => fuzzer_mutate(data, size, max_size),
    }
}

/// libFuzzer's own changes to a part.
fn raw(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let room = bytes.len() + 1 + random.below(32);
    let mut out = bytes.to_vec();
    out.resize(room, 0);
    let length = fuzzer_mutate(&mut out, bytes.len(), room);
    out.truncate(length);
    out
}

const NUMBERS: [i64; 14] = [0, 1, -1, 2, 3, 64, 255, 1024, 65_536, 1 << 20, 1 << 31, (1 << 31) - 1, i64::MAX, i64::MIN];

fn json(bytes: &[u8], random: &mut Random) -> Option<Vec<u8>> {
    let mut value: Value = serde_json::from_slice(bytes).ok()?;
    for _ in 0..=random.below(3) {
        let count = nodes(&value);
        let mut at = random.below(count);
        change(&mut value, &mut at, random);
    }
    serde_json::to_vec(&value).ok()
}

fn nodes(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(nodes).sum(),
        Value::Object(fields) => fields.values().map(nodes).sum(),
        _ => 0,
    }
}

/// Changes the node at a position, counted from the root.
fn change(value: &mut Value, at: &mut usize, random: &mut Random) {
    if *at == 0 {
        *at = usize::MAX;
        match value {
            Value::Array(items) if !items.is_empty() && random.below(2) == 0 => {
                let which = random.below(items.len());
                if random.below(2) == 0 {
                    items.remove(which);
                } else {
                    let copy = items[which].clone();
                    items.insert(which, copy);
                }
            }
            Value::Object(fields) if !fields.is_empty() && random.below(2) == 0 => {
                let which = random.below(fields.len());
                let key = fields.keys().nth(which).cloned().unwrap_or_default();
                if let Some(removed) = fields.remove(&key).filter(|_| random.below(2) == 0) {
                    fields.insert(format!("{key}x"), removed);
                }
            }
            _ => {
                *value = match random.below(8) {
                    0 => Value::Null,
                    1 => Value::Bool(random.below(2) == 0),
                    2 => Value::String(["", "a", "../x", "gelu", "\u{1b}[31m", "clip"][random.below(6)].to_owned()),
                    3 => Value::Array(vec![]),
                    4 => serde_json::json!({}),
                    5 => serde_json::json!([1e308, -0.5, f64::MIN_POSITIVE, 0.1][random.below(4)]),
                    _ => NUMBERS[random.below(NUMBERS.len())].into(),
                }
            }
        }
        return;
    }
    *at -= 1;
    let inner: Vec<&mut Value> = match value {
        Value::Array(items) => items.iter_mut().collect(),
        Value::Object(fields) => fields.values_mut().collect(),
        _ => vec![],
    };
    for one in inner {
        if *at == usize::MAX {
            return;
        }
        change(one, at, random);
    }
}

/// One line of several, as JSON.
fn lines(bytes: &[u8], random: &mut Random) -> Option<Vec<u8>> {
    let mut lines: Vec<Vec<u8>> = bytes.split(|&b| b == b'\n').map(<[u8]>::to_vec).collect();
    let which = random.below(lines.len());
    lines[which] = json(&lines[which], random)?;
    Some(lines.join(&b'\n'))
}

type Part<'a> = &'a dyn Fn(&[u8], &mut Random) -> Vec<u8>;

/// Members of an archive, with sums that hold; `part` changes the bytes of one.
fn zip(bytes: &[u8], random: &mut Random, part: Part) -> Option<Vec<u8>> {
    let mut archive = ZipArchive::new(Cursor::new(bytes)).ok()?;
    let mut members = Vec::new();
    for at in 0..archive.len().min(64) {
        let member = archive.by_index(at).ok()?;
        let name = member.name().ok()?.into_owned();
        let mut contents = Vec::new();
        member.take(1 << 16).read_to_end(&mut contents).ok()?;
        members.push((name, contents));
    }
    let which = random.below(members.len());
    let first_pickle = members.iter().position(|(name, _)| name.ends_with("data.pkl"));
    match random.below(10) {
        0 if members.len() > 1 => drop(members.remove(which)),
        1 => {
            let copy = members.get(which)?.clone();
            members.push((copy.0 + "x", copy.1));
        }
        2 => members.get_mut(which)?.0.push_str(["/", ".npy", "x", "\u{202e}"][random.below(4)]),
        _ => {
            // The program of a PyTorch file is what most is in.
            let which = first_pickle.filter(|_| random.below(4) > 0).unwrap_or(which);
            let member = members.get_mut(which)?;
            member.1 = part(&member.1, random);
        }
    }
    let mut out = ZipWriter::new(Cursor::new(Vec::new()));
    let method = if random.below(4) == 0 { CompressionMethod::Deflated } else { CompressionMethod::Stored };
    for (name, contents) in members {
        out.start_file(name, SimpleFileOptions::default().compression_method(method)).ok()?;
        out.write_all(&contents).ok()?;
    }
    Some(out.finish().ok()?.into_inner())
}

fn safetensors(bytes: &[u8], random: &mut Random) -> Option<Vec<u8>> {
    let length = u64::from_le_bytes(*bytes.first_chunk()?) as usize;
    let (header, data) = bytes.get(8..)?.split_at_checked(length)?;
    let header = json(header, random)?;
    Some([&(header.len() as u64).to_le_bytes()[..], &header, data].concat())
}

/// Bytes of an opcode's argument; None where they are counted by the argument itself.
fn argument(code: u8, rest: &[u8]) -> usize {
    let counted = |width: usize| {
        let mut bytes = [0; 8];
        bytes[..width].copy_from_slice(rest.get(..width).unwrap_or(&[0; 8][..width]));
        width.saturating_add(u64::from_le_bytes(bytes) as usize)
    };
    let lines = |count: usize| {
        let ends = rest.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at + 1);
        ends.take(count).last().unwrap_or(rest.len())
    };
    match code {
        0x80 | b'K' | b'q' | b'h' => 1,
        b'M' => 2,
        b'J' | b'r' | b'j' => 4,
        b'G' | 0x95 => 8,
        0x8a | 0x8c | b'U' | b'C' => counted(1),
        b'X' | b'T' | b'B' | 0x8b => counted(4),
        0x8d | 0x8e | 0x96 => counted(8),
        b'c' => lines(2),
        _ => 0,
    }
}

/// Opcodes taken out, doubled, moved, or with another argument.
fn pickle(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut codes: Vec<Vec<u8>> = Vec::new();
    let mut at = 0;
    while at < bytes.len() && codes.len() < 20_000 {
        let end = (at + 1).saturating_add(argument(bytes[at], &bytes[at + 1..])).min(bytes.len());
        codes.push(bytes[at..end].to_vec());
        at = end;
    }
    for _ in 0..=random.below(3) {
        if codes.is_empty() {
            break;
        }
        let (from, to) = (random.below(codes.len()), random.below(codes.len()));
        match random.below(6) {
            0 => drop(codes.remove(from)),
            1 => {
                let copy = codes[from].clone();
                codes.insert(to, copy);
            }
            2 => codes.swap(from, to),
            3 => {
                let many = codes[from].clone();
                (0..random.below(50)).for_each(|_| codes.insert(to, many.clone()));
            }
            4 => {
                const CODES: &[u8] = b"N.()}]t\x85\x86\x87aesu01 2R\x81\x92bQ\x93\x94\x8f\x90\x91";
                codes.insert(to, vec![CODES[random.below(CODES.len())]]);
            }
            _ => {
                let code = codes[from][0];
                codes[from] = raw(&codes[from].clone()[1..], random);
                codes[from].insert(0, code);
            }
        }
    }
    codes.extend((at < bytes.len()).then(|| bytes[at..].to_vec()));
    codes.concat()
}

fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f).checked_shl(7 * at as u32)?;
        if byte & 0x80 == 0 {
            return Some((value, at + 1));
        }
    }
    None
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Fields of a message: key, and what follows it.
fn fields(bytes: &[u8]) -> Option<Vec<(u64, Vec<u8>)>> {
    let (mut out, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let (key, length) = varint(&bytes[at..])?;
        at += length;
        let (skip, end) = match key & 7 {
            0 => (0, at + varint(&bytes[at..])?.1),
            1 => (0, at + 8),
            2 => {
                let (size, length) = varint(&bytes[at..])?;
                (length, (at + length).checked_add(usize::try_from(size).ok()?)?)
            }
            5 => (0, at + 4),
            _ => return None,
        };
        out.push((key, bytes.get(at + skip..end)?.to_vec()));
        at = end;
    }
    Some(out)
}

/// A field of a message, at some depth, taken out, doubled or changed; lengths are written anew.
fn protobuf(bytes: &[u8], random: &mut Random, depth: usize) -> Vec<u8> {
    let Some(mut all) = fields(bytes).filter(|all| !all.is_empty()) else { return raw(bytes, random) };
    let which = random.below(all.len());
    let (key, value) = all[which].clone();
    match random.below(8) {
        0 => drop(all.remove(which)),
        1 => {
            let to = random.below(all.len());
            all.insert(to, (key, value));
        }
        _ if key & 7 == 0 => {
            let mut changed = Vec::new();
            put_varint(NUMBERS[random.below(NUMBERS.len())] as u64, &mut changed);
            all[which].1 = changed;
        }
        _ if key & 7 == 2 && depth < 8 => all[which].1 = protobuf(&value, random, depth + 1),
        _ => all[which].1 = if key & 7 == 2 { raw(&value, random) } else { value },
    }
    let mut out = Vec::new();
    for (key, value) in all {
        put_varint(key, &mut out);
        if key & 7 == 2 {
            put_varint(value.len() as u64, &mut out);
        }
        out.extend(value);
    }
    out
}
