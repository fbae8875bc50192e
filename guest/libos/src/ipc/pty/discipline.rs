//! The line discipline: what becomes of the bytes that are typed and of those that programs print (n_tty). It knows neither
//! files nor threads; what is to happen comes out as values.
use super::termios::Termios;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use linux_raw_sys::general::*;

/// Longest line, without its end, and most raw bytes that wait.
const INPUT_MAX: usize = 4095;
const TAB: usize = 8;

/// What a typed byte leads to besides input.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// For the screen, output processing done.
    pub echo: Vec<u8>,
    /// For the foreground process group.
    pub signal: Option<u32>,
    /// What waits to be shown is dropped (after a signal).
    pub flush_output: bool,
}

#[derive(Default)]
pub struct Discipline {
    pub termios: Termios,
    /// What programs can read: in canonical mode a line each, an empty one for the end of input.
    ready: VecDeque<Vec<u8>>,
    /// The line that is being typed.
    line: Vec<u8>,
    literal_next: bool,
    /// Where the screen's cursor is in its line.
    column: usize,
    /// Output is held back (control-S).
    stopped: bool,
}

impl Discipline {
    fn canonical(&self) -> bool {
        self.termios.has_local(ICANON)
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// `tcflow`.
    pub fn set_stopped(&mut self, stopped: bool) {
        self.stopped = stopped;
    }

    /// Bytes that a read would find.
    pub fn readable(&self) -> usize {
        match self.canonical() {
            true => self.ready.front().map_or(0, Vec::len),
            false => self.ready.iter().map(Vec::len).sum::<usize>() + self.line.len(),
        }
    }

    /// Whether a read would not have to wait.
    pub fn is_readable(&self) -> bool {
        match self.canonical() {
            true => !self.ready.is_empty(),
            false => self.readable() >= usize::from(self.termios.number(VMIN)).max(1),
        }
    }

    /// Whether more may be typed. In canonical mode what is too much is thrown away instead.
    pub fn has_room(&self) -> bool {
        self.canonical() || self.readable() < INPUT_MAX
    }

    /// Forgets what was typed and not read.
    pub fn flush_input(&mut self) {
        self.ready.clear();
        self.line.clear();
    }

    /// Up to `max` bytes for a program: `None` where it has to wait, empty at the end of input.
    pub fn read(&mut self, max: usize) -> Option<Vec<u8>> {
        if self.canonical() {
            let mut line = self.ready.pop_front()?;
            if line.len() > max {
                let rest = line.split_off(max);
                self.ready.push_front(rest);
            }
            return Some(line);
        }
        if !self.is_readable() {
            return (self.termios.number(VMIN) == 0).then(Vec::new);
        }
        let mut all: Vec<u8> = self.ready.drain(..).flatten().collect();
        all.append(&mut self.line);
        let rest = all.split_off(all.len().min(max));
        if !rest.is_empty() {
            self.ready.push_back(rest);
        }
        Some(all)
    }

    /// Shows what a program prints.
    pub fn print(&mut self, bytes: &[u8], to: &mut Vec<u8>) {
        for byte in bytes {
            self.print_byte(*byte, to);
        }
    }

    fn print_byte(&mut self, byte: u8, to: &mut Vec<u8>) {
        let termios = self.termios;
        if !termios.has_output(OPOST) {
            to.push(byte);
            return;
        }
        match byte {
            b'\n' if termios.has_output(ONLCR) => {
                self.column = 0;
                to.extend_from_slice(b"\r\n");
            }
            b'\r' if termios.has_output(ONOCR) && self.column == 0 => {}
            b'\r' if termios.has_output(OCRNL) => to.push(b'\n'),
            b'\r' => {
                self.column = 0;
                to.push(byte);
            }
            b'\t' => {
                let width = TAB - self.column % TAB;
                self.column += width;
                if termios.output & TABDLY == XTABS {
                    to.extend(core::iter::repeat_n(b' ', width));
                } else {
                    to.push(byte);
                }
            }
            0x08 => {
                self.column = self.column.saturating_sub(1);
                to.push(byte);
            }
            _ => {
                let continues = termios.has_input(IUTF8) && byte & 0xc0 == 0x80;
                self.column += usize::from(byte >= b' ' && !continues);
                to.push(byte);
            }
        }
    }

    /// Takes a typed byte.
    pub fn type_byte(&mut self, byte: u8) -> Effects {
        let mut effects = Effects::default();
        let termios = self.termios;
        let mut byte = if termios.has_input(ISTRIP) { byte & 0x7f } else { byte };
        if core::mem::take(&mut self.literal_next) {
            self.add(byte, &mut effects);
            return effects;
        }
        match byte {
            b'\r' if termios.has_input(IGNCR) => return effects,
            b'\r' if termios.has_input(ICRNL) => byte = b'\n',
            b'\n' if termios.has_input(INLCR) => byte = b'\r',
            _ => {}
        }
        if termios.has_input(IXON) {
            if termios.is(VSTOP, byte) {
                self.stopped = true;
                return effects;
            }
            if termios.is(VSTART, byte) {
                self.stopped = false;
                return effects;
            }
            self.stopped &= !termios.has_input(IXANY);
        }
        if let Some(signal) = self.signal_for(byte) {
            self.stopped = false;
            if !termios.has_local(NOFLSH) {
                self.flush_input();
                effects.flush_output = true;
            }
            self.echo(byte, &mut effects);
            effects.signal = Some(signal);
            return effects;
        }
        if self.canonical() {
            self.edit(byte, &mut effects);
        } else {
            self.add(byte, &mut effects);
        }
        effects
    }

    fn signal_for(&self, byte: u8) -> Option<u32> {
        let characters = [(VINTR, SIGINT), (VQUIT, SIGQUIT), (VSUSP, SIGTSTP)];
        let asked = characters.iter().find(|(which, _)| self.termios.is(*which, byte));
        asked.filter(|_| self.termios.has_local(ISIG)).map(|(_, signal)| *signal)
    }

    /// Canonical mode: keys that edit or end the line.
    fn edit(&mut self, byte: u8, effects: &mut Effects) {
        let termios = self.termios;
        let extended = termios.has_local(IEXTEN);
        match byte {
            _ if termios.is(VERASE, byte) => self.erase_character(byte, effects),
            _ if extended && termios.is(VWERASE, byte) => self.erase_word(byte, effects),
            _ if termios.is(VKILL, byte) => self.erase_line(byte, effects),
            _ if extended && termios.is(VLNEXT, byte) => {
                self.literal_next = true;
                if termios.has_local(ECHO) && termios.has_local(ECHOCTL) {
                    effects.echo.extend_from_slice(b"^\x08");
                }
            }
            _ if extended && termios.is(VREPRINT, byte) && termios.has_local(ECHO) => {
                self.echo(byte, effects);
                self.print(b"\n", &mut effects.echo);
                for byte in self.line.clone() {
                    self.echo(byte, effects);
                }
            }
            b'\n' => {
                if termios.has_local(ECHO) || termios.has_local(ECHONL) {
                    self.print(b"\n", &mut effects.echo);
                }
                self.end_line(Some(byte));
            }
            _ if termios.is(VEOF, byte) => self.end_line(None),
            _ if termios.is(VEOL, byte) || extended && termios.is(VEOL2, byte) => {
                self.echo(byte, effects);
                self.end_line(Some(byte));
            }
            _ => self.add(byte, effects),
        }
    }

    fn end_line(&mut self, last: Option<u8>) {
        let mut line = core::mem::take(&mut self.line);
        line.extend(last);
        self.ready.push_back(line);
    }

    fn add(&mut self, byte: u8, effects: &mut Effects) {
        if self.line.len() < INPUT_MAX {
            self.echo(byte, effects);
            self.line.push(byte);
        }
    }

    fn is_shown_as_two(&self, byte: u8) -> bool {
        self.termios.has_local(ECHOCTL) && (byte < b' ' && !matches!(byte, b'\t' | b'\n') || byte == 0x7f)
    }

    fn echo(&mut self, byte: u8, effects: &mut Effects) {
        let newline = byte == b'\n' && self.canonical() && self.termios.has_local(ECHONL);
        if !self.termios.has_local(ECHO) && !newline {
            return;
        }
        if self.is_shown_as_two(byte) {
            self.print(&[b'^', byte ^ 0x40], &mut effects.echo);
        } else {
            self.print_byte(byte, &mut effects.echo);
        }
    }

    /// Takes the last character off the line: the columns that it had on the screen.
    fn take_character(&mut self) -> Option<usize> {
        let mut byte = self.line.pop()?;
        while self.termios.has_input(IUTF8) && byte & 0xc0 == 0x80 {
            byte = self.line.pop()?;
        }
        Some(match byte {
            b'\t' => TAB,
            _ if self.is_shown_as_two(byte) => 2,
            0..b' ' => 0,
            _ => 1,
        })
    }

    fn rub_out(&mut self, columns: usize, key: u8, effects: &mut Effects) {
        if !self.termios.has_local(ECHO) {
            return;
        }
        if !self.termios.has_local(ECHOE) {
            return self.echo(key, effects);
        }
        for _ in 0..columns {
            effects.echo.extend_from_slice(b"\x08 \x08");
        }
        self.column = self.column.saturating_sub(columns);
    }

    fn erase_character(&mut self, key: u8, effects: &mut Effects) {
        if let Some(columns) = self.take_character() {
            self.rub_out(columns, key, effects);
        }
    }

    fn erase_word(&mut self, key: u8, effects: &mut Effects) {
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || *byte >= 0x80;
        let mut seen = false;
        while let Some(last) = self.line.last() {
            if seen && !is_word(last) {
                break;
            }
            seen |= is_word(last);
            self.erase_character(key, effects);
        }
    }

    fn erase_line(&mut self, key: u8, effects: &mut Effects) {
        let shown = self.termios.has_local(ECHOE) && self.termios.has_local(ECHOKE);
        if shown || !self.termios.has_local(ECHO) {
            while !self.line.is_empty() {
                self.erase_character(key, effects);
            }
            return;
        }
        self.line.clear();
        self.echo(key, effects);
        if self.termios.has_local(ECHOK) {
            self.print(b"\n", &mut effects.echo);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn type_all(discipline: &mut Discipline, bytes: &[u8]) -> Vec<u8> {
        bytes.iter().flat_map(|byte| discipline.type_byte(*byte).echo).collect()
    }

    #[test]
    fn a_line_is_read_when_it_has_ended() {
        let mut discipline = Discipline::default();
        assert_eq!(type_all(&mut discipline, b"ls"), b"ls");
        assert_eq!(discipline.read(100), None);
        assert_eq!(type_all(&mut discipline, b"\r"), b"\r\n");
        assert_eq!(type_all(&mut discipline, b"more\n"), b"more\r\n");
        assert_eq!(discipline.read(2), Some(b"ls".to_vec()));
        assert_eq!(discipline.read(100), Some(b"\n".to_vec()));
        assert_eq!(discipline.read(100), Some(b"more\n".to_vec()));
    }

    #[test]
    fn keys_that_edit() {
        let mut discipline = Discipline::default();
        assert_eq!(type_all(&mut discipline, b"ab\x7f"), b"ab\x08 \x08");
        type_all(&mut discipline, b"c two\x17\x16\x03\n");
        assert_eq!(discipline.read(100), Some(b"ac \x03\n".to_vec()));
        type_all(&mut discipline, b"gone\x15kept\n");
        assert_eq!(discipline.read(100), Some(b"kept\n".to_vec()));
        discipline.termios.input |= IUTF8;
        type_all(&mut discipline, "aé\x7f\n".as_bytes());
        assert_eq!(discipline.read(100), Some(b"a\n".to_vec()));
    }

    #[test]
    fn the_end_of_input() {
        let mut discipline = Discipline::default();
        assert_eq!(type_all(&mut discipline, b"x\x04"), b"x");
        assert_eq!(discipline.read(100), Some(b"x".to_vec()));
        type_all(&mut discipline, b"\x04");
        assert_eq!(discipline.read(100), Some(vec![]));
        assert_eq!(discipline.read(100), None);
    }

    #[test]
    fn keys_that_send_signals() {
        let mut discipline = Discipline::default();
        type_all(&mut discipline, b"forgotten");
        let effects = discipline.type_byte(3);
        assert_eq!((effects.signal, effects.flush_output, effects.echo.as_slice()), (Some(SIGINT), true, &b"^C"[..]));
        type_all(&mut discipline, b"\n");
        assert_eq!(discipline.read(100), Some(b"\n".to_vec()));
        discipline.termios.local &= !ISIG;
        assert_eq!(discipline.type_byte(3).signal, None);
    }

    #[test]
    fn raw_mode_gives_every_byte() {
        let mut discipline = Discipline::default();
        type_all(&mut discipline, b"ab");
        discipline.termios.local &= !(ICANON | ECHO | ISIG | IEXTEN);
        discipline.termios.input = 0;
        discipline.termios.output = 0;
        assert_eq!(type_all(&mut discipline, b"\x03\r\x7f"), b"");
        assert_eq!(discipline.read(3), Some(b"ab\x03".to_vec()));
        assert_eq!(discipline.read(3), Some(b"\r\x7f".to_vec()));
        assert_eq!(discipline.read(3), None);
        discipline.termios.characters[VMIN as usize] = 0;
        assert_eq!(discipline.read(3), Some(vec![]));
        let mut shown = Vec::new();
        discipline.print(b"a\nb", &mut shown);
        assert_eq!(shown, b"a\nb");
    }

    #[test]
    fn output_is_held_and_tabs_become_blanks() {
        let mut discipline = Discipline::default();
        type_all(&mut discipline, b"\x13");
        assert!(discipline.is_stopped());
        type_all(&mut discipline, b"\x11");
        assert!(!discipline.is_stopped());
        discipline.termios.output |= XTABS;
        let mut shown = Vec::new();
        discipline.print(b"ab\tc\n\t|", &mut shown);
        assert_eq!(shown, b"ab      c\r\n        |");
    }
}
