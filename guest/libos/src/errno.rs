//! Linux error numbers as a type.
use core::fmt;

/// A positive Linux errno.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

/// What a system call gives: a value for rax, or an errno that goes there negated.
pub type Result<T = usize> = core::result::Result<T, Errno>;

macro_rules! errnos {
    ($($name:ident)*) => {
        impl Errno {
            $(pub const $name: Errno = Errno(linux_raw_sys::errno::$name as i32);)*

            /// Symbolic name, as `strace` prints it.
            pub fn name(self) -> &'static str {
                $(if self == Self::$name { return stringify!($name); })*
                "E?"
            }
        }
    };
}

errnos! {
    EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT ENOTBLK EBUSY EEXIST EXDEV
    ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM ERANGE EDEADLK
    ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP ENODATA ETIME EOVERFLOW EILSEQ EUSERS ENOTSOCK EDESTADDRREQ EMSGSIZE
    EPROTOTYPE ENOPROTOOPT EPROTONOSUPPORT ESOCKTNOSUPPORT EOPNOTSUPP EPFNOSUPPORT EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL
    ENETDOWN ENETUNREACH ENETRESET ECONNABORTED ECONNRESET ENOBUFS EISCONN ENOTCONN ESHUTDOWN ETIMEDOUT ECONNREFUSED
    EHOSTDOWN EHOSTUNREACH EALREADY EINPROGRESS ESTALE EDQUOT ENOMSG EIDRM ECANCELED EOWNERDEAD ENOTRECOVERABLE
}

impl Errno {
    /// Inside the library OS only: the call is restarted after the signal handler (SA_RESTART), else EINTR.
    pub const RESTART: Errno = Errno(512);
    /// Inside the library OS only: like [`Self::RESTART`] where a handler ran means EINTR whatever its flags say.
    pub const RESTART_NO_HANDLER: Errno = Errno(514);

    /// Inside the library OS only: the call is restarted after any handler.
    pub const RESTART_ALWAYS: Errno = Errno(513);

    /// The value that goes into rax.
    pub fn to_rax(self) -> u64 {
        (-i64::from(self.0)) as u64
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
