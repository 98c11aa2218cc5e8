//! What code will cost the compiler, from its form alone, before anything compiles.
//!
//! Cranelift's time and memory do not follow the octets: 11 KiB can be written that take it a minute and 20 GiB. So the
//! work is estimated, in units of what an octet of ordinary code takes (about 1.5 µs on the machine of docs/performance.md),
//! and bounded. The weights are measured: the worst found for each term takes about as long as the worst of the others.
//!
//! ```text
//! function     160 + octets of its body + 8 x values it takes and gives + L / 8 for L locals
//! branches     32 B + B (B + 4 P) / 100     B blocks and branch targets, P values that blocks take and give:
//!                                           liveness is a table of blocks and values
//! locals       L B / 4                      L locals in use: each may have to be merged at each block
//! loops        2 x depth, each
//! calls        8 + 4 x values passed, each; calls by table, and instructions on tables and memories, are blocks, too
//! long         6, each: divisions, and floats, whose results that are no number get one form
//! start-up     a function of 3 blocks for each element and 4 for each data segment that is not laid out
//! the rest     256 a module, import, table, or function that is lifted or lowered; 16 for whatever else is listed, 6 for
//!              each value in a type, and a quarter of an octet of names and types
//! ```

use wasmparser::{BlockType, FunctionBody, Operator, Payload};

use super::check::ContractError;
use super::fuel::Parts;
use super::inventory::{Inventory, Startup};
use crate::limits::COMPILE_WORK;

/// Of a function, whatever is in it: prologue, trampolines, tables.
const FUNCTION: u64 = 160;
/// Of a module, or of a function that is lifted, lowered or made by the component model.
const GLUE: u64 = 256;
/// Of anything that a section lists: it has a place in tables, perhaps a name.
const ITEM: u64 = 16;
/// Of each value in a type: it is compared, hashed and laid out over and over.
const VALUE: u64 = 6;
/// Of each value that a function takes or gives: whoever exports it, or puts it into a table, has trampolines made.
const PASSED: u64 = 8;
/// Locals that weigh as much as an octet of code where they are declared: thousands are named by a few octets.
const LOCALS: u64 = 8;
/// Octets of names, types and data that weigh as much as one of code.
const PLAIN_OCTETS: u64 = 4;

/// The work seen so far, and the module at hand.
#[derive(Debug, Default)]
pub(super) struct Budget {
    work: u64,
    module: Inventory,
}

impl Budget {
    /// The work so far.
    pub fn work(&self) -> u64 {
        self.work
    }

    /// Adds work.
    ///
    /// # Errors
    /// It is too much.
    fn spend(&mut self, work: u64) -> Result<(), ContractError> {
        self.work = self.work.saturating_add(work);
        if self.work > COMPILE_WORK { Err(ContractError::Work(self.work)) } else { Ok(()) }
    }

    /// Adds what a section lists.
    fn items(&mut self, count: u32, octets: usize) -> Result<(), ContractError> {
        self.spend(ITEM * u64::from(count) + octets as u64 / PLAIN_OCTETS)
    }

    /// Adds a section, of the component or the module at hand. There is none that does not count.
    ///
    /// # Errors
    /// Malformed, or too much work.
    pub fn section(&mut self, payload: &Payload<'_>) -> Result<(), ContractError> {
        match payload {
            Payload::Version { .. } => {
                self.module = Inventory::default();
                self.spend(GLUE)
            }
            Payload::TypeSection(types) => {
                self.items(types.count(), types.range().len())?;
                for of_function in types.clone().into_iter_err_on_gc_types() {
                    let of_function = of_function?;
                    let (takes, gives) = (of_function.params().len() as u64, of_function.results().len() as u64);
                    self.spend(VALUE * (takes + gives))?;
                    self.module.types.push((takes, gives));
                }
                Ok(())
            }
            Payload::ImportSection(imports) => {
                self.items(imports.count(), imports.range().len())?;
                for import in imports.clone().into_imports() {
                    let values = self.module.import(&import?);
                    self.spend(GLUE + PASSED * values)?;
                }
                Ok(())
            }
            Payload::FunctionSection(functions) => {
                self.items(functions.count(), 0)?;
                for of_type in functions.clone() {
                    self.module.function(of_type?);
                }
                Ok(())
            }
            Payload::TableSection(tables) => {
                self.spend(GLUE * u64::from(tables.count()))?;
                tables.clone().into_iter().try_for_each(|table| self.module.table(&table?))
            }
            Payload::MemorySection(memories) => {
                self.spend(GLUE * u64::from(memories.count()))?;
                for memory in memories.clone() {
                    self.module.memory(memory?.initial);
                }
                Ok(())
            }
            Payload::GlobalSection(globals) => {
                self.items(globals.count(), globals.range().len())?;
                globals.clone().into_iter().try_for_each(|global| self.module.global(&global?))
            }
            Payload::ElementSection(elements) => {
                self.items(elements.count(), elements.range().len())?;
                elements.clone().into_iter().try_for_each(|element| self.module.elements(&element?))
            }
            Payload::DataSection(segments) => {
                self.items(segments.count(), segments.range().len() / 16)?;
                segments.clone().into_iter().try_for_each(|segment| self.module.data(&segment?))
            }
            Payload::CodeSectionEntry(body) => self.body(body),
            Payload::ExportSection(exports) => self.items(exports.count(), exports.range().len()),
            Payload::TagSection(tags) => self.items(tags.count(), tags.range().len()),
            Payload::CustomSection(section) => self.items(1, section.range().len()),
            Payload::InstanceSection(instances) => {
                self.spend(GLUE * u64::from(instances.count()))?;
                self.items(0, instances.range().len() * 4)
            }
            Payload::ComponentCanonicalSection(functions) => self.spend(GLUE * u64::from(functions.count())),
            Payload::CoreTypeSection(types) => self.items(types.count(), types.range().len() * 4),
            Payload::ComponentTypeSection(types) => self.items(types.count(), types.range().len() * 16),
            Payload::ComponentInstanceSection(instances) => self.items(instances.count(), instances.range().len() * 4),
            Payload::ComponentAliasSection(aliases) => self.items(aliases.count(), aliases.range().len() * 4),
            Payload::ComponentImportSection(imports) => self.items(imports.count(), imports.range().len() * 4),
            Payload::ComponentExportSection(exports) => self.items(exports.count(), exports.range().len() * 4),
            Payload::StartSection { .. } | Payload::ComponentStartSection { .. } => self.spend(GLUE),
            Payload::DataCountSection { .. }
            | Payload::CodeSectionStart { .. }
            | Payload::ModuleSection { .. }
            | Payload::ComponentSection { .. }
            | Payload::End(_) => Ok(()),
            // The compiler knows none that the parser does not.
            other => Err(ContractError::Malformed {
                at: 0,
                what: format!("section {other:?} is not known").chars().take(64).collect(),
            }),
        }
    }

    /// The module at hand ends; gives what its instances are made of.
    ///
    /// # Errors
    /// Too much work.
    pub fn leave_module(&mut self) -> Result<Parts, ContractError> {
        self.spend(startup(self.module.startup()) + self.module.image() / IMAGE_OCTETS)?;
        Ok(self.module.parts())
    }

    /// Adds a function; they come in order.
    fn body(&mut self, body: &FunctionBody<'_>) -> Result<(), ContractError> {
        let (takes, gives) = self.module.of_function(self.module.next);
        let mut locals = takes;
        self.module.next += 1;
        for declared in body.get_locals_reader()? {
            locals += u64::from(declared?.0);
        }
        let mut shape = Shape::default();
        for operator in body.get_operators_reader()? {
            shape.note(&operator?, &self.module);
        }
        let declared = PASSED * (takes + gives) + locals / LOCALS;
        self.spend(shape.work(body.range().len() as u64, locals) + declared)
    }
}

/// Octets of a laid out memory that weigh as much as one of code.
const IMAGE_OCTETS: u64 = 64;

/// Work of the function that runs when an instance begins: blocks like any other's.
fn startup(startup: Startup) -> u64 {
    if startup == Startup::default() {
        return 0;
    }
    let Startup { items, passive, segments, expressions } = startup;
    let shape = Shape { blocks: 3 * items + 4 * segments, ..Shape::default() };
    shape.work(16 * items + 16 * passive + 32 * segments + 8 * expressions, 0)
}

/// What counts in a body.
#[derive(Debug, Default)]
struct Shape {
    blocks: u64,
    /// Values that blocks take and give.
    values: u64,
    /// Instructions that name a local.
    local_uses: u64,
    /// Work of loops and calls.
    more: u64,
    /// Open blocks: whether it is a loop.
    open: Vec<bool>,
    /// Loops among them.
    depth: u64,
}

impl Shape {
    fn note(&mut self, operator: &Operator<'_>, module: &Inventory) {
        match operator {
            Operator::Block { blockty } | Operator::If { blockty } => self.enter(*blockty, false, module),
            Operator::Loop { blockty } => self.enter(*blockty, true, module),
            Operator::End => self.depth -= u64::from(self.open.pop() == Some(true)),
            Operator::Else | Operator::BrIf { .. } => self.blocks += 1,
            Operator::BrTable { targets } => self.blocks += 1 + u64::from(targets.len()) / BRANCH_TARGETS,
            Operator::LocalGet { .. } | Operator::LocalSet { .. } | Operator::LocalTee { .. } => self.local_uses += 1,
            Operator::MemoryFill { .. } | Operator::MemoryCopy { .. } | Operator::MemoryInit { .. } => self.blocks += 2,
            Operator::TableFill { .. } | Operator::TableCopy { .. } | Operator::TableInit { .. } => self.blocks += 6,
            Operator::MemoryGrow { .. } | Operator::TableGrow { .. } | Operator::TableGet { .. } => self.blocks += 2,
            Operator::TableSet { .. } => self.blocks += 1,
            Operator::RefFunc { .. } | Operator::ElemDrop { .. } | Operator::DataDrop { .. } => self.more += CALL,
            Operator::Call { function_index } => self.call(module.of_function(*function_index as usize)),
            Operator::CallIndirect { type_index, .. } => {
                self.blocks += 2;
                self.call(module.of_type(*type_index));
            }
            operator if is_long(operator) => self.more += LONG,
            _ => {}
        }
    }

    fn enter(&mut self, blockty: BlockType, is_loop: bool, module: &Inventory) {
        // A loop looks at fuel and epoch when it begins.
        self.blocks += if is_loop { 2 } else { 1 };
        let (takes, gives) = match blockty {
            BlockType::Empty => (0, 0),
            BlockType::Type(_) => (0, 1),
            BlockType::FuncType(of_type) => module.of_type(of_type),
        };
        self.values += takes + gives;
        self.open.push(is_loop);
        if is_loop {
            self.depth += 1;
            self.more += 2 * self.depth;
        }
    }

    fn call(&mut self, (takes, gives): (u64, u64)) {
        self.more += CALL + 4 * (takes + gives);
    }

    fn work(&self, octets: u64, locals: u64) -> u64 {
        // All are far below 2^32: a contract has few octets.
        let Self { blocks, values, local_uses, more, .. } = self;
        let branches = 32 * blocks + blocks * (blocks + 4 * values) / 100;
        FUNCTION + octets + branches + locals.min(*local_uses) * blocks / 4 + more
    }
}

/// Of a call, whatever it passes.
const CALL: u64 = 8;
/// Of an instruction that becomes many.
const LONG: u64 = 6;

/// Divisions check for zero and overflow; each result of floats is looked at, whether it is a number.
fn is_long(operator: &Operator<'_>) -> bool {
    use Operator as O;
    matches!(
        operator,
        O::I32DivS
            | O::I32DivU
            | O::I32RemS
            | O::I32RemU
            | O::I64DivS
            | O::I64DivU
            | O::I64RemS
            | O::I64RemU
            | O::F32Add
            | O::F32Sub
            | O::F32Mul
            | O::F32Div
            | O::F32Sqrt
            | O::F32Min
            | O::F32Max
            | O::F64Add
            | O::F64Sub
            | O::F64Mul
            | O::F64Div
            | O::F64Sqrt
            | O::F64Min
            | O::F64Max
            | O::F32Ceil
            | O::F32Floor
            | O::F32Trunc
            | O::F32Nearest
            | O::F32DemoteF64
            | O::F64Ceil
            | O::F64Floor
            | O::F64Trunc
            | O::F64Nearest
            | O::F64PromoteF32
            | O::I32TruncF32S
            | O::I32TruncF32U
            | O::I32TruncF64S
            | O::I32TruncF64U
            | O::I64TruncF32S
            | O::I64TruncF32U
            | O::I64TruncF64S
            | O::I64TruncF64U
            | O::I32TruncSatF32S
            | O::I32TruncSatF32U
            | O::I32TruncSatF64S
            | O::I32TruncSatF64U
            | O::I64TruncSatF32S
            | O::I64TruncSatF32U
            | O::I64TruncSatF64S
            | O::I64TruncSatF64U
            | O::F32ConvertI64U
            | O::F64ConvertI64U
    )
}

/// Targets of a `br_table` that weigh as much as a block: many name the same one.
const BRANCH_TARGETS: u64 = 8;

#[cfg(test)]
mod tests {
    use super::super::check::estimate;
    use super::*;

    /// A contract with the fields in its module and the instructions in `resolve`, which has five parameters.
    fn work(fields: &str, resolve: &str) -> Result<(), ContractError> {
        let text = format!(
            r#"(component (core module $m {fields} (func (export "f") (param i32 i32 i32 i32 i32) (result i32) {resolve}
               local.get 0)) (core instance $i (instantiate $m))
               (func (export "resolve") (param "a" u32) (canon lift (core func $i "f"))))"#
        );
        estimate(&wat::parse_str(text).unwrap()).map(drop)
    }

    fn is_too_much(fields: &str, resolve: &str) -> bool {
        matches!(work(fields, resolve), Err(ContractError::Work(_)))
    }

    #[test]
    fn what_would_take_the_compiler_seconds_or_gigabytes_is_too_much() {
        let values = "i64 ".repeat(100);
        let typed = format!("(type $t (func (param {values}) (result {values})))");
        let push = "i64.const 1 ".repeat(100);
        let drop = "drop ".repeat(100);
        let locals = "(local i32)".repeat(1_000);
        let set: String = (5..1_005).map(|n| format!("local.get 0 local.set {n} ")).collect();
        let many = |text: &str, count: usize| text.repeat(count);
        let looped = "loop local.get 0 br_if 0 end ";
        let forms = [
            // Functions without end; one with too many blocks, side by side or nested; deep loops.
            (many("(func)", 9_000), String::new()),
            (String::new(), many("local.get 0 if end ", 8_000)),
            (String::new(), many(looped, 3_000)),
            (String::new(), many("block ", 9_000) + &many("end ", 9_000)),
            (String::new(), many("loop ", 800) + &many("local.get 0 br_if 0 end ", 800)),
            // Blocks that hand on many values, many locals over many loops, calls with many values.
            (typed.clone(), push.clone() + &many("loop (type $t) local.get 0 br_if 0 end ", 500) + &drop),
            (String::new(), locals + &set + &many(looped, 700)),
            (
                format!(
                    "{typed} (func $f (type $t) {})",
                    (0..100).map(|n| format!("local.get {n} ")).collect::<String>()
                ),
                push + &many("call $f ", 2_000) + &drop,
            ),
        ];
        for (at, (fields, resolve)) in forms.iter().enumerate() {
            assert!(is_too_much(fields, resolve), "form {at}");
        }
    }

    #[test]
    fn what_comes_with_the_program_is_far_from_the_bound() {
        for (contract, wasm) in crate::node::SHIPPED {
            let work = estimate(wasm).unwrap().work;
            assert!(work < COMPILE_WORK / 3, "{contract}: {work}");
        }
    }

    #[test]
    fn ordinary_code_of_a_hundred_kilobytes_is_not() {
        let function = "(func (param i32 i32) (result i32) (local i32 i32 i32) block (result i32) local.get 0 if \
                        local.get 1 i32.load local.set 2 end loop local.get 2 local.get 3 i32.add local.tee 3 br_if 0 end \
                        local.get 3 local.get 4 i32.store local.get 2 end local.get 1 call 0 ";
        let function = function.to_owned() + &"local.get 2 i32.add ".repeat(60) + ")";
        let fields =
            "(memory 1)".to_owned() + &function.replace("call 0", "i32.add").to_owned() + &function.repeat(499);
        work(&fields, "").unwrap();
    }
}
