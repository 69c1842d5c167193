//! BPF links: what holds a program on a device. A link that is pinned outlives the process, and the program in it can be
//! exchanged without a gap.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use libbpf_rs::libbpf_sys::{
    BPF_F_BEFORE, BPF_TCX_INGRESS, BPF_XDP, bpf_link_create, bpf_link_create_opts,
    bpf_link_create_opts__bindgen_ty_1 as OfPoint, bpf_link_create_opts__bindgen_ty_1__bindgen_ty_6 as Tcx,
    bpf_link_detach, bpf_link_update, bpf_obj_get, bpf_obj_pin,
};
use libbpf_rs::query::{LinkInfo, LinkTypeInfo};

use super::xdp::XdpMode;

/// Where on a device a link holds its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// XDP, in this mode.
    Xdp(XdpMode),
    /// The first look at received skbs (tcx, Linux 6.6), as the first of the programs there, if those are what they were when
    /// this was their `revision`.
    TcxIngress {
        /// Of the programs there, as the kernel counts their changes; 0 for whatever they are.
        revision: u64,
    },
}

/// What a link holds, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The link's own.
    pub id: u32,
    /// At XDP; else at tcx.
    pub at_xdp: bool,
    /// The device, ifindex, in whatever namespace that is by now; `None` once that is gone, or the program was detached.
    pub device: Option<u32>,
    /// The program's id.
    pub program: u32,
}

/// A link that this process has open. Dropping it detaches the program unless the link is pinned or open elsewhere.
#[derive(Debug)]
pub struct Link(OwnedFd);

impl Link {
    /// Attaches a program to the device `ifindex` of the calling thread's network namespace. Another one there is never
    /// replaced: XDP has one place, and at tcx this comes first.
    ///
    /// # Errors
    /// What the kernel says; ESTALE where the programs at tcx have changed since their revision was asked.
    pub fn create(program: BorrowedFd<'_>, ifindex: u32, point: Point) -> io::Result<Link> {
        // All zero: what lies behind the members of a point has to be.
        let mut of_point = OfPoint::default();
        let (kind, flags) = match point {
            Point::Xdp(mode) => (BPF_XDP, mode.flags()),
            Point::TcxIngress { revision } => {
                of_point.tcx = Tcx { expected_revision: revision, ..Default::default() };
                (BPF_TCX_INGRESS, BPF_F_BEFORE)
            }
        };
        let ifindex = i32::try_from(ifindex).map_err(|_| io::ErrorKind::InvalidInput)?;
        let sz = size_of::<bpf_link_create_opts>() as _;
        let opts = bpf_link_create_opts { sz, flags, __bindgen_anon_1: of_point, ..Default::default() };
        // SAFETY: `opts` is whole, says its size, and outlives the call, which only reads it.
        descriptor(unsafe { bpf_link_create(program.as_raw_fd(), ifindex, kind, &raw const opts) })
    }

    /// Opens a pinned link.
    ///
    /// # Errors
    /// There is none: nothing, or something else.
    pub fn open(path: &Path) -> io::Result<Link> {
        let path = c_path(path)?;
        // SAFETY: a string that ends in NUL and outlives the call.
        let link = descriptor(unsafe { bpf_obj_get(path.as_ptr()) })?;
        // The kernel opens maps and programs in the same way, and would give what is asked of a link from those.
        let object = fs::read_link(format!("/proc/self/fd/{}", link.0.as_raw_fd()))?;
        match object.to_str().and_then(|object| object.strip_prefix("anon_inode:")) {
            Some("bpf-link" | "bpf_link") => Ok(link),
            object => {
                Err(io::Error::new(io::ErrorKind::InvalidData, format!("no link: {}", object.unwrap_or_default())))
            }
        }
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

    /// What it holds.
    ///
    /// # Errors
    /// It is no link of XDP or tcx.
    pub fn held(&self) -> io::Result<Held> {
        let info = LinkInfo::from_fd(self.0.as_fd()).map_err(io::Error::other)?;
        let (at_xdp, ifindex) = match info.info {
            LinkTypeInfo::Xdp(xdp) => (true, xdp.ifindex),
            LinkTypeInfo::Tcx(tcx) => (false, tcx.ifindex),
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "not a link of a network device")),
        };
        Ok(Held { id: info.id, at_xdp, device: (ifindex != 0).then_some(ifindex), program: info.prog_id })
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
