//! The work that fuel is taken for.
//!
//! A unit is about a nanosecond on the machine of docs/performance.md, where a plain instruction takes a third of one. So
//! whatever an execution costs the machine is paid: its instance, host calls, memory it touches. Prices are part of what a
//! contract means, since receipts hold the fuel; so receipts name their [`Schedule`], and an old one is never changed.

use wasmtime::OperatorCost;

/// How fuel is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Schedule {
    /// Until December 2026: instances, growth of memories and records that are read were free.
    First,
    /// The schedule of today.
    #[default]
    Second,
}

/// Fuel of what is no instruction.
#[derive(Debug)]
pub(super) struct Prices {
    /// Any call of the host, and any octet that goes through it.
    pub call: u64,
    pub octet: u64,
    /// Each RDATA that is handed over, either way.
    pub record: u64,
    pub lookup: u64,
    /// Per octet hashed.
    pub sha: u64,
    pub ed25519: u64,
    pub p256: u64,
    /// Each page (64 KiB) of memory beyond the first: the kernel clears it, and takes it back.
    pub page: u64,
    /// An instance is made; nothing else of it is for nothing either.
    pub instance: bool,
}

const FIRST: Prices = Prices {
    call: 200,
    octet: 1,
    record: 0,
    lookup: 3_000,
    sha: 5,
    ed25519: 50_000,
    p256: 150_000,
    page: 0,
    instance: false,
};

const SECOND: Prices = Prices { record: 200, page: PAGE, instance: true, ..FIRST };

/// Of a page of memory beyond the first.
const PAGE: u64 = 24_000;

impl Schedule {
    /// As receipts name it.
    pub fn number(self) -> u32 {
        match self {
            Self::First => 1,
            Self::Second => 2,
        }
    }

    /// The schedule of this number; `None` if this version of the program has none.
    pub fn of_number(number: u32) -> Option<Self> {
        [Self::First, Self::Second].into_iter().find(|schedule| schedule.number() == number)
    }

    pub(super) fn prices(self) -> &'static Prices {
        match self {
            Self::First => &FIRST,
            Self::Second => &SECOND,
        }
    }

    /// Fuel of each instruction; `None` where wasmtime's own counts.
    pub(super) fn operator_costs(self) -> Option<OperatorCost> {
        (self == Self::Second).then(operator_costs)
    }
}

/// Instructions that take many times as long as others.
fn operator_costs() -> OperatorCost {
    let mut cost = OperatorCost::new();
    // Each looks at fuel and epoch.
    (cost.Loop, cost.Call, cost.CallIndirect) = (1, 4, 6);
    (cost.I32DivS, cost.I32DivU, cost.I32RemS, cost.I32RemU) = (2, 2, 2, 2);
    (cost.I64DivS, cost.I64DivU, cost.I64RemS, cost.I64RemU) = (2, 2, 2, 2);
    (cost.F32Div, cost.F64Div, cost.F32Sqrt, cost.F64Sqrt) = (4, 4, 8, 8);
    (cost.F32Nearest, cost.F64Nearest, cost.F32Ceil, cost.F64Ceil) = (2, 2, 2, 2);
    (cost.F32Floor, cost.F64Floor, cost.F32Trunc, cost.F64Trunc) = (2, 2, 2, 2);
    // Calls into the host.
    (cost.MemoryGrow, cost.TableGrow) = (250, 250);
    (cost.MemoryFill, cost.MemoryCopy, cost.MemoryInit) = (20, 20, 20);
    (cost.TableFill, cost.TableCopy, cost.TableInit) = (20, 20, 20);
    (cost.DataDrop, cost.ElemDrop, cost.RefFunc) = (20, 20, 40);
    cost.variable.memory_grow_per_page = 1;
    cost
}

/// Parts of one core instance.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Parts {
    pub imports: u64,
    pub functions: u64,
    pub globals: u64,
    pub tables: u64,
    pub table_elements: u64,
    /// Of its memory, 64 KiB each.
    pub pages: u64,
    /// Octets of memory that are laid out: a page of them is copied when it is touched.
    pub image: u64,
    /// Copies made when the instance begins: items of element segments, data segments, their octets.
    pub items: u64,
    pub segments: u64,
    pub octets: u64,
    /// Instructions of constant expressions that are computed then.
    pub expressions: u64,
}

impl Parts {
    /// Fuel of making the instance.
    pub fn fuel(&self) -> u64 {
        let Self { imports, functions, globals, tables, table_elements, pages, image, .. } = self;
        let memory = PAGE.saturating_mul(pages.saturating_sub(1)) + image / 16;
        let sizes = 20 * imports + 4 * functions + 10 * globals + 500 * tables + 2 * table_elements + memory;
        INSTANCE + sizes + 100 * self.items + 200 * self.segments + self.octets + 2 * self.expressions
    }
}

/// Of an instance with nothing in it.
const INSTANCE: u64 = 1_000;
/// Of an execution beside its instances: a store, the call, its parameters and results.
pub(super) const EXECUTION: u64 = 4_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_have_numbers_of_their_own() {
        for schedule in [Schedule::First, Schedule::Second] {
            assert_eq!(Schedule::of_number(schedule.number()), Some(schedule));
        }
        assert_eq!(Schedule::of_number(3), None);
        assert_eq!(Schedule::default(), Schedule::Second);
    }

    /// Whoever changes a number here makes a new schedule of it: receipts hold what these prices add up to.
    #[test]
    fn the_first_schedule_is_as_it_was() {
        let Prices { call, octet, record, lookup, sha, ed25519, p256, page, instance } = FIRST;
        assert_eq!((call, octet, record, lookup, sha), (200, 1, 0, 3_000, 5));
        assert_eq!((ed25519, p256, page, instance), (50_000, 150_000, 0, false));
        assert!(Schedule::First.operator_costs().is_none());
    }
}
