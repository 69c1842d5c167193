//! BPF links: what holds a program on a device. A link that is pinned outlives the process, and the program in it can be
//! exchanged without a gap.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use libbpf_rs::libbpf_sys::{
    BPF_TCX_INGRESS, BPF_XDP, bpf_link_create, bpf_link_create_opts, bpf_link_detach, bpf_link_update, bpf_obj_get,
    bpf_obj_pin,
};
use libbpf_rs::query::{LinkInfo, LinkTypeInfo};

use super::xdp::XdpMode;

/// Where on a device a link holds its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// XDP, in this mode.
    Xdp(XdpMode),
    /// The first look at received skbs (tcx, Linux 6.6).
    TcxIngress,
}

/// A link that this process has open. Dropping it detaches the program unless the link is pinned or open elsewhere.
#[derive(Debug)]
pub struct Link(OwnedFd);

impl Link {
    /// Attaches a program to the device `ifindex` of the calling thread's network namespace. Another one there is never
    /// replaced: XDP has one place, and at tcx this comes last.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn create(program: BorrowedFd<'_>, ifindex: u32, point: Point) -> io::Result<Link> {
        let (kind, flags) = match point {
            Point::Xdp(mode) => (BPF_XDP, mode.flags()),
            Point::TcxIngress => (BPF_TCX_INGRESS, 0),
        };
        let ifindex = i32::try_from(ifindex).map_err(|_| io::ErrorKind::InvalidInput)?;
        let opts = bpf_link_create_opts { sz: size_of::<bpf_link_create_opts>() as _, flags, ..Default::default() };
        // SAFETY: `opts` is whole, says its size, and outlives the call, which only reads it.
        descriptor(unsafe { bpf_link_create(program.as_raw_fd(), ifindex, kind, &raw const opts) })
    }

    /// Opens a pinned link.
    ///
    /// # Errors
    /// There is none.
    pub fn open(path: &Path) -> io::Result<Link> {
        let path = c_path(path)?;
        // SAFETY: a string that ends in NUL and outlives the call.
        descriptor(unsafe { bpf_obj_get(path.as_ptr()) })
    }

    /// Pins it in a bpffs.
    ///
    /// # Errors
    /// No bpffs, or something is there.
    pub fn pin(&self, path: &Path) -> io::Result<()> {
        pin(self.0.as_fd(), path)
    }

    /// Exchanges the program: each frame meets the older one or this one.
    ///
    /// # Errors
    /// The device is gone, or the program does not fit there.
    pub fn swap(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        // SAFETY: two open descriptors; no options.
        done(unsafe { bpf_link_update(self.0.as_raw_fd(), program.as_raw_fd(), std::ptr::null()) })
    }

    /// Detaches the program, whoever else has the link open.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn detach(&self) -> io::Result<()> {
        // SAFETY: an open descriptor.
        done(unsafe { bpf_link_detach(self.0.as_raw_fd()) })
    }

    /// The device it is on, ifindex, in whatever namespace that is by now; `None` once that is gone, or the program was
    /// detached.
    ///
    /// # Errors
    /// It is no link of XDP or tcx.
    pub fn device(&self) -> io::Result<Option<u32>> {
        let info = LinkInfo::from_fd(self.0.as_fd()).map_err(io::Error::other)?;
        let ifindex = match info.info {
            LinkTypeInfo::Xdp(xdp) => xdp.ifindex,
            LinkTypeInfo::Tcx(tcx) => tcx.ifindex,
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "not a link of a network device")),
        };
        Ok((ifindex != 0).then_some(ifindex))
    }
}

/// Pins what a descriptor of a BPF object stands for.
pub(super) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    // SAFETY: a string that ends in NUL and outlives the call; an open descriptor.
    done(unsafe { bpf_obj_pin(object.as_raw_fd(), path.as_ptr()) })
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// What libbpf returns: 0, or an error's number, negative.
fn done(returned: i32) -> io::Result<()> {
    if returned < 0 { Err(io::Error::from_raw_os_error(-returned)) } else { Ok(()) }
}

/// Likewise, or a descriptor.
fn descriptor(returned: RawFd) -> io::Result<Link> {
    done(returned)?;
    // SAFETY: the kernel just gave this descriptor to us alone.
    Ok(Link(unsafe { OwnedFd::from_raw_fd(returned) }))
}
