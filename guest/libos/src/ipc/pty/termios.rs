//! Terminal settings, as `TCGETS` lays them out (termios(3)).
use linux_raw_sys::general::*;

/// The kernel's `struct termios`.
#[derive(Clone, Copy, Debug, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)]
#[repr(C)]
pub struct Termios {
    pub input: u32,
    pub output: u32,
    pub control: u32,
    pub local: u32,
    pub line: u8,
    pub characters: [u8; 19],
}

/// Bytes of it; `struct termios2` has two speeds behind.
pub const TERMIOS_LEN: usize = size_of::<Termios>();

const _: () = assert!(TERMIOS_LEN == 36);

impl Default for Termios {
    /// What a fresh terminal has.
    fn default() -> Termios {
        let mut characters = [0; 19];
        let usual: [(u32, u8); 13] = [
            (VINTR, 3),
            (VQUIT, 0x1c),
            (VERASE, 0x7f),
            (VKILL, 0x15),
            (VEOF, 4),
            (VMIN, 1),
            (VSTART, 0x11),
            (VSTOP, 0x13),
            (VSUSP, 0x1a),
            (VREPRINT, 0x12),
            (VDISCARD, 0xf),
            (VWERASE, 0x17),
            (VLNEXT, 0x16),
        ];
        for (index, character) in usual {
            characters[index as usize] = character;
        }
        Termios {
            input: ICRNL | IXON,
            output: OPOST | ONLCR,
            control: B38400 | CS8 | CREAD,
            local: ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN,
            line: 0,
            characters,
        }
    }
}

impl Termios {
    pub fn has_input(&self, flag: u32) -> bool {
        self.input & flag != 0
    }

    pub fn has_output(&self, flag: u32) -> bool {
        self.output & flag != 0
    }

    pub fn has_local(&self, flag: u32) -> bool {
        self.local & flag != 0
    }

    /// Whether `byte` is the control character `which` (`V*`); 0 means that there is none.
    pub fn is(&self, which: u32, byte: u8) -> bool {
        byte != 0 && self.characters[which as usize] == byte
    }

    /// A number kept among the control characters (VMIN, VTIME).
    pub fn number(&self, which: u32) -> u8 {
        self.characters[which as usize]
    }
}
