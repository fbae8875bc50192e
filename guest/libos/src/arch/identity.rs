//! What processor this is (`cpuid`), for `/proc/cpuinfo`.
use alloc::string::String;
use alloc::vec::Vec;
use core::arch::x86_64::{__cpuid, __cpuid_count, CpuidResult};

/// The processor.
pub struct Identity {
    pub vendor: String,
    pub family: u32,
    pub model: u32,
    pub stepping: u32,
    pub name: String,
    /// Highest standard leaf.
    pub level: u32,
    pub flags: Vec<&'static str>,
}

fn leaf(number: u32, sub: u32) -> CpuidResult {
    // Every processor that runs this code has cpuid; unknown leaves answer zeroes or those of another leaf.
    if sub == 0 { __cpuid(number) } else { __cpuid_count(number, sub) }
}

#[derive(Clone, Copy)]
enum Register {
    Ebx,
    Ecx,
    Edx,
}

/// Leaf, register, and the names that Linux gives to its bits ("" = none).
const FLAGS: &[(u32, Register, &str)] = &[
    (
        1,
        Register::Edx,
        "fpu vme de pse tsc msr pae mce cx8 apic - sep mtrr pge mca cmov pat pse36 pn clflush - dts acpi mmx fxsr sse sse2 ss ht tm ia64 pbe",
    ),
    (
        1,
        Register::Ecx,
        "pni pclmulqdq dtes64 monitor ds_cpl vmx smx est tm2 ssse3 cid sdbg fma cx16 xtpr pdcm - pcid dca sse4_1 sse4_2 x2apic movbe popcnt tsc_deadline_timer aes xsave - avx f16c rdrand hypervisor",
    ),
    (
        0x8000_0001,
        Register::Edx,
        "- - - - - - - - - - - syscall - - - - - - - mp nx - mmxext - - fxsr_opt pdpe1gb rdtscp - lm 3dnowext 3dnow",
    ),
    (
        0x8000_0001,
        Register::Ecx,
        "lahf_lm cmp_legacy svm extapic cr8_legacy abm sse4a misalignsse 3dnowprefetch osvw ibs xop skinit wdt - lwp fma4 tce - nodeid_msr - tbm topoext perfctr_core perfctr_nb - bpext ptsc perfctr_llc mwaitx - -",
    ),
    (
        7,
        Register::Ebx,
        "fsgsbase tsc_adjust sgx bmi1 hle avx2 - smep bmi2 erms invpcid rtm cqm - mpx rdt_a avx512f avx512dq rdseed adx smap avx512ifma - clflushopt clwb intel_pt avx512pf avx512er avx512cd sha_ni avx512bw avx512vl",
    ),
    (
        7,
        Register::Ecx,
        "- avx512vbmi umip pku ospke waitpkg avx512_vbmi2 - gfni vaes vpclmulqdq avx512_vnni avx512_bitalg tme avx512_vpopcntdq - la57 - - - - - rdpid - - cldemote - movdiri movdir64b enqcmd - -",
    ),
];

fn text(registers: &[u32]) -> String {
    let bytes: Vec<u8> = registers.iter().flat_map(|register| register.to_le_bytes()).collect();
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).trim().into()
}

/// Asks the processor. A few microseconds a leaf in a virtual machine: for whoever wants to know, not for a data path.
pub fn identity() -> Identity {
    let base = leaf(0, 0);
    let signature = leaf(1, 0).eax;
    let (family, model) = (signature >> 8 & 0xf, signature >> 4 & 0xf);
    let extended = leaf(0x8000_0000, 0).eax;
    let mut name = Vec::new();
    if extended >= 0x8000_0004 {
        for number in 0x8000_0002..=0x8000_0004 {
            let part = leaf(number, 0);
            name.extend([part.eax, part.ebx, part.ecx, part.edx]);
        }
    }
    let mut flags = Vec::new();
    for (number, register, names) in FLAGS {
        let limit = if *number >= 0x8000_0000 { extended } else { base.eax };
        if *number > limit {
            continue;
        }
        let registers = leaf(*number, 0);
        let bits = match register {
            Register::Ebx => registers.ebx,
            Register::Ecx => registers.ecx,
            Register::Edx => registers.edx,
        };
        flags.extend(
            (0..)
                .zip(names.split(' '))
                .filter(|(bit, name)| bits >> bit & 1 == 1 && *name != "-")
                .map(|(_, name)| name),
        );
    }
    Identity {
        vendor: text(&[base.ebx, base.edx, base.ecx]),
        family: if family == 0xf { family + (signature >> 20 & 0xff) } else { family },
        model: if family >= 6 { model | signature >> 12 & 0xf0 } else { model },
        stepping: signature & 0xf,
        name: text(&name),
        level: base.eax,
        flags,
    }
}
