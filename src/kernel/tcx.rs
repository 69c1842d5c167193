//! What is at tcx of a device (Linux 6.6): programs, in the order in which a frame meets them. One that takes a frame leaves
//! none for those behind it.

#![allow(unsafe_code)]

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use libbpf_rs::Program;
use libbpf_rs::libbpf_sys::{
    BPF_TCX_INGRESS, bpf_obj_get_info_by_fd, bpf_prog_info, bpf_prog_query_opts, bpf_prog_query_opts__bindgen_ty_1,
};

/// The most programs there can be (`BPF_MPROG_MAX`).
const MOST: usize = 64;

/// A program, as far as this process may know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its number in the kernel.
    pub id: u32,
    /// Its name; `None` where it has none, or this process may not look (CAP_SYS_ADMIN).
    pub name: Option<String>,
}

impl Known {
    /// The program of this number.
    #[must_use]
    pub fn of(id: u32) -> Known {
        Known { id, name: Program::fd_from_id(id).ok().and_then(|program| name_of(&program)) }
    }
}

/// `"span_tc" (id 7)`
impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name:?} (id {})", self.id),
            None => write!(f, "id {}", self.id),
        }
    }
}

/// The programs at the ingress of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Programs {
    /// Their numbers in the kernel; the first meets frames first.
    pub ids: Vec<u32>,
    /// Changes when they do.
    pub revision: u64,
}

impl Programs {
    /// Asks the kernel, for a device of the calling thread's network namespace.
    ///
    /// # Errors
    /// It has gone, the kernel has no tcx, or CAP_NET_ADMIN is missing.
    pub fn at(device: u32) -> io::Result<Programs> {
        let device = i32::try_from(device).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut ids = vec![0; MOST];
        let mut opts = bpf_prog_query_opts {
            sz: size_of::<bpf_prog_query_opts>() as _,
            prog_ids: ids.as_mut_ptr(),
            __bindgen_anon_1: bpf_prog_query_opts__bindgen_ty_1 { count: MOST as u32 },
            ..Default::default()
        };
        // SAFETY: `opts` is whole, says its size, and its one pointer leads to as many words as it says; both outlive the call.
        let done = unsafe { bpf_prog_query_opts(device, BPF_TCX_INGRESS, &raw mut opts) };
        if done < 0 {
            return Err(io::Error::from_raw_os_error(-done));
        }
        // SAFETY: both members are this one word.
        let count = unsafe { opts.__bindgen_anon_1.count };
        ids.truncate(count as usize);
        Ok(Programs { ids, revision: opts.revision })
    }

    /// Those that meet frames before the program `id` does; all of them where that is not there.
    pub fn before(&self, id: u32) -> impl Iterator<Item = Known> {
        self.ids.iter().take_while(move |&&other| other != id).map(|&id| Known::of(id))
    }
}

fn name_of(program: &OwnedFd) -> Option<String> {
    let mut info = bpf_prog_info::default();
    let mut len = size_of::<bpf_prog_info>() as u32;
    // SAFETY: `info` is as long as `len` says, its pointers are null and their lengths 0, and both outlive the call.
    let done = unsafe { bpf_obj_get_info_by_fd(program.as_raw_fd(), (&raw mut info).cast(), &raw mut len) };
    let bytes: Vec<u8> = info.name.iter().flat_map(|c| c.to_ne_bytes()).take_while(|&c| c != 0).collect();
    String::from_utf8(bytes).ok().filter(|name| done == 0 && !name.is_empty())
}
