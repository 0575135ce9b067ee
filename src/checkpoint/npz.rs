//! `.npz`: a zip archive of `.npy` arrays, as `numpy.savez` and big_vision write it.

use super::archive::Member;
use super::{Error, npy};
use crate::tensor::Tensor;

pub fn read(members: &[Member]) -> Result<Vec<(String, Tensor)>, Error> {
    members.iter().map(array).collect()
}

fn array(member: &Member) -> Result<(String, Tensor), Error> {
    let Some(name) = member.name.strip_suffix(".npy") else {
        return Err(Error::Member {
            name: member.name.clone(),
            reason: "is not a .npy array; expected an archive that `numpy.savez` wrote".to_owned(),
        });
    };
    let header = npy::parse(&member.prefix(npy::MAX_PREFIX)?)
        .map_err(|reason| Error::Member { name: name.to_owned(), reason })?;
    let (storage, available) = (member.storage(header.length), member.size.saturating_sub(header.length));
    let needed = header.shape.iter().try_fold(header.dtype.size(), |n, &len| n.checked_mul(len));
    if let Some(needed) = needed.filter(|&needed| needed < available) {
        let reason = format!("has {available} bytes where its shape {:?} takes {needed}", header.shape);
        return Err(Error::Member { name: name.to_owned(), reason });
    }
    let tensor = Tensor::contiguous(name, header.dtype, &header.shape, header.fortran_order, storage, available)?;
    Ok((name.to_owned(), tensor))
}
