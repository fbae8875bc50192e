//! `kasoku-broker standby`: a broker whose device is open before anybody has it. Opening takes most of a broker's start (tens of
//! milliseconds on a processor, hundreds on a discrete device); here it is over when a lease is given.
//!
//! The process has seen no guest, is in its jail, and does not hold the device: others may take, use and give it up. It serves
//! one session and ends with it, as every broker.
use crate::cli::{RECOVER_MOST, ServeOptions, StandbyOptions};
use crate::control::Control;
use crate::lease::node_key;
use crate::process::{close_on_exec, describe_end};
use crate::serving::{Descriptors, ServeError, Waiting};
use crate::supervisor::serve_session;
use kasoku_backend_opencl::DeviceKind;
use rustix::event::{PollFd, PollFlags, poll};
use serde_json::{Value, json};
use std::os::fd::{FromRawFd, OwnedFd};

/// Waits for a session and serves it, until the control socket is closed. The exit code of the program.
pub fn wait(options: &StandbyOptions) -> u8 {
    close_on_exec();
    // SAFETY: the caller passed this descriptor to this program, which owns it from here on.
    let mut control = Control::new(unsafe { OwnedFd::from_raw_fd(options.control) });
    let told = node_key(&options.lease_dir)
        .map_err(ServeError::from)
        .and_then(|secret| Waiting::start(&options.sources, &options.lease_dir, &options.device, &secret))
        .and_then(|waiting| wait_for_session(options, waiting, &mut control));
    match told {
        Ok(None) => 0,
        Ok(Some((waiting, wanted))) => {
            let (serve, session, file) = wanted.with(options);
            serve_session(&serve, control, session, file, Some(waiting))
        }
        Err(error) => {
            control.fail(error.kind(), &error.to_string());
            eprintln!("kasoku-broker: {error}");
            1
        }
    }
}

/// `None`: nobody wanted it.
fn wait_for_session(
    options: &StandbyOptions,
    mut waiting: Waiting,
    control: &mut Control,
) -> Result<Option<(Waiting, Wanted)>, ServeError> {
    loop {
        let worker = &waiting.worker;
        let mut waits = [PollFd::new(&*control, PollFlags::IN), PollFd::new(&worker.link, PollFlags::IN)];
        match poll(&mut waits, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(ServeError::Start(error.into())),
        }
        let [owner, ours] = waits.map(|wait| !wait.revents().is_empty());
        if ours {
            let Some(received) = waiting.worker.link.receive() else {
                let end = describe_end(waiting.worker.kill());
                return Err(ServeError::Device(format!("the process that waits {end}")));
            };
            waiting.hear(&received, options.sources.cpu_devices != 0).map_err(ServeError::Device)?;
            let mut line = json!({ "standby": true, "pid": std::process::id() });
            if let (Some(line), Some(report)) = (line.as_object_mut(), waiting.report.as_object()) {
                line.extend(report.clone());
            }
            control.say(&line);
        }
        if owner {
            match control.hear_first() {
                None => return Ok(None),
                Some(None) => {}
                Some(Some((line, descriptors))) => {
                    // Whoever asks has been told that the device is open.
                    let wanted = Wanted::parse(&line, descriptors).filter(|_| !waiting.report.is_null());
                    let wanted = wanted.ok_or_else(|| ServeError::Session("no session was handed over".into()))?;
                    return Ok(Some((waiting, wanted)));
                }
            }
        }
    }
}

/// A session that is to be served.
struct Wanted {
    epoch: u64,
    present: Option<DeviceKind>,
    recover_mib: u32,
    session: Descriptors,
    /// Of one that goes on: verified and unchangeable.
    file: Option<OwnedFd>,
}

impl Wanted {
    /// `{"serve": {"epoch": N, "present": KIND or null, "recover": MIB}}` with the session's descriptors.
    fn parse(line: &[u8], descriptors: Vec<OwnedFd>) -> Option<Self> {
        let line: Value = serde_json::from_slice(line).ok()?;
        let body = line.get("serve")?;
        let present = match body.get("present")? {
            Value::Null => None,
            word => Some(DeviceKind::ALL.into_iter().find(|kind| Some(kind.name()) == word.as_str())?),
        };
        let recover_mib = u32::try_from(body.get("recover")?.as_u64()?).ok().filter(|mib| *mib <= RECOVER_MOST)?;
        let mut descriptors = descriptors.into_iter();
        let (memory, doorbell, wake) = (descriptors.next()?, descriptors.next()?, descriptors.next()?);
        let session = Descriptors { memory, doorbell, wake };
        Some(Self { epoch: body.get("epoch")?.as_u64()?, present, recover_mib, session, file: descriptors.next() })
    }

    fn with(self, options: &StandbyOptions) -> (ServeOptions, Descriptors, Option<OwnedFd>) {
        let serve = ServeOptions {
            device: options.device.clone(),
            memory: 0,
            doorbell: 0,
            wake: 0,
            control: options.control,
            lease_dir: options.lease_dir.clone(),
            sources: options.sources.clone(),
            epoch: self.epoch,
            device_memory_mib: None,
            present: self.present,
            session: 0,
            session_verified: true,
            recover_mib: self.recover_mib,
        };
        (serve, self.session, self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::empty_file;

    fn parsed(line: &str, count: usize) -> Option<Wanted> {
        Wanted::parse(line.as_bytes(), (0..count).map(|_| empty_file().unwrap()).collect())
    }

    #[test]
    fn only_a_whole_session_is_taken() {
        let line = "{\"serve\": {\"epoch\": 7, \"present\": \"gpu\", \"recover\": 64}}";
        let wanted = parsed(line, 4).unwrap();
        assert_eq!((wanted.epoch, wanted.present, wanted.recover_mib), (7, Some(DeviceKind::Gpu), 64));
        assert!(wanted.file.is_some() && parsed(line, 3).unwrap().file.is_none());
        assert!(parsed(line, 2).is_none());
        for wrong in [
            "",
            "[]",
            "{\"serve\": {}}",
            "{\"save\": {\"epoch\": 7, \"present\": null, \"recover\": 0}}",
            "{\"serve\": {\"epoch\": 7, \"present\": \"fpga\", \"recover\": 0}}",
            "{\"serve\": {\"epoch\": -7, \"present\": null, \"recover\": 0}}",
            "{\"serve\": {\"epoch\": 7, \"present\": null, \"recover\": 4097}}",
        ] {
            assert!(parsed(wrong, 3).is_none(), "{wrong}");
        }
    }
}
