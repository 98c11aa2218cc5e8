//! What code will cost the compiler, from its form alone, before anything compiles.
//!
//! Cranelift's time and memory do not follow the octets: 11 KiB can be written that take it a minute and 20 GiB. So the
//! work is estimated, in units of what an octet of ordinary code takes (about 1.5 µs on the machine of docs/performance.md),
//! and bounded. The weights are measured: the worst found for each term takes about as long as the worst of the others.
//!
//! ```text
//! function     160 + octets of its body
//! branches     32 B + B (B + 4 P) / 100     B blocks and branch targets, P values that blocks take and give:
//!                                           liveness is a table of blocks and values
//! locals       L B / 4                      L locals in use: each may have to be merged at each block
//! loops        2 x depth, each
//! calls        4 x values passed, each
//! ```

use wasmparser::TypeSectionReader;
use wasmparser::{BlockType, FunctionBody, FunctionSectionReader, ImportSectionReader, Operator, TypeRef};

use super::check::ContractError;
use crate::limits::COMPILE_WORK;

/// Of a function, whatever is in it: prologue, trampolines, tables.
const FUNCTION: u64 = 160;
/// Of a module, or of a function that is lifted, lowered or made by the component model.
pub(super) const GLUE: u64 = 256;

/// The work seen so far, and the index spaces of the module at hand.
#[derive(Debug, Default)]
pub(super) struct Budget {
    work: u64,
    /// Values that each type takes, and gives.
    types: Vec<(u64, u64)>,
    /// Types of all functions, imported ones first.
    functions: Vec<u32>,
    /// Of the next body.
    next: usize,
}

impl Budget {
    /// The work so far.
    #[cfg(test)]
    pub fn work(&self) -> u64 {
        self.work
    }

    /// Adds work.
    ///
    /// # Errors
    /// It is too much.
    pub fn spend(&mut self, work: u64) -> Result<(), ContractError> {
        self.work = self.work.saturating_add(work);
        if self.work > COMPILE_WORK { Err(ContractError::Work(self.work)) } else { Ok(()) }
    }

    /// A module begins.
    ///
    /// # Errors
    /// It is one too many.
    pub fn module(&mut self) -> Result<(), ContractError> {
        *self = Self { work: self.work, ..Self::default() };
        self.spend(GLUE)
    }

    /// Notes the types of the module.
    ///
    /// # Errors
    /// Malformed.
    pub fn types(&mut self, types: TypeSectionReader<'_>) -> Result<(), ContractError> {
        for of_function in types.into_iter_err_on_gc_types() {
            let of_function = of_function?;
            self.types.push((of_function.params().len() as u64, of_function.results().len() as u64));
        }
        Ok(())
    }

    /// Notes the functions that the module imports.
    ///
    /// # Errors
    /// Malformed.
    pub fn imports(&mut self, imports: ImportSectionReader<'_>) -> Result<(), ContractError> {
        for import in imports.into_imports() {
            if let TypeRef::Func(of_type) | TypeRef::FuncExact(of_type) = import?.ty {
                self.functions.push(of_type);
            }
        }
        self.next = self.functions.len();
        Ok(())
    }

    /// Notes the functions that the module defines.
    ///
    /// # Errors
    /// Malformed.
    pub fn functions(&mut self, functions: FunctionSectionReader<'_>) -> Result<(), ContractError> {
        for of_type in functions {
            self.functions.push(of_type?);
        }
        Ok(())
    }

    /// Adds a function; they come in order.
    ///
    /// # Errors
    /// Malformed, or too much work.
    pub fn body(&mut self, body: &FunctionBody<'_>) -> Result<(), ContractError> {
        let mut locals = self.of_function(self.next).0;
        self.next += 1;
        for declared in body.get_locals_reader()? {
            locals += u64::from(declared?.0);
        }
        let mut shape = Shape::default();
        for operator in body.get_operators_reader()? {
            shape.note(&operator?, self);
        }
        self.spend(shape.work(body.range().len() as u64, locals))
    }

    /// Values that a function takes, and gives. What is of no type is malformed, and found out later.
    fn of_function(&self, index: usize) -> (u64, u64) {
        self.functions.get(index).map_or((0, 0), |of_type| self.of_type(*of_type))
    }

    fn of_type(&self, index: u32) -> (u64, u64) {
        self.types.get(index as usize).copied().unwrap_or_default()
    }
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
    fn note(&mut self, operator: &Operator<'_>, module: &Budget) {
        match operator {
            Operator::Block { blockty } | Operator::If { blockty } => self.enter(*blockty, false, module),
            Operator::Loop { blockty } => self.enter(*blockty, true, module),
            Operator::End => self.depth -= u64::from(self.open.pop() == Some(true)),
            Operator::Else | Operator::BrIf { .. } => self.blocks += 1,
            Operator::BrTable { targets } => self.blocks += 1 + u64::from(targets.len()) / BRANCH_TARGETS,
            Operator::LocalGet { .. } | Operator::LocalSet { .. } | Operator::LocalTee { .. } => self.local_uses += 1,
            Operator::Call { function_index } => self.call(module.of_function(*function_index as usize)),
            Operator::CallIndirect { type_index, .. } => self.call(module.of_type(*type_index)),
            _ => {}
        }
    }

    fn enter(&mut self, blockty: BlockType, is_loop: bool, module: &Budget) {
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
        self.more += 4 * (takes + gives);
    }

    fn work(&self, octets: u64, locals: u64) -> u64 {
        // All are far below 2^32: a contract has few octets.
        let Self { blocks, values, local_uses, more, .. } = self;
        let branches = 32 * blocks + blocks * (blocks + 4 * values) / 100;
        FUNCTION + octets + branches + locals.min(*local_uses) * blocks / 4 + more
    }
}

/// Targets of a `br_table` that weigh as much as a block: many name the same one.
const BRANCH_TARGETS: u64 = 8;

#[cfg(test)]
mod tests {
    use super::super::check::scan;
    use super::*;

    /// A contract with the fields in its module and the instructions in `resolve`, which has five parameters.
    fn work(fields: &str, resolve: &str) -> Result<(), ContractError> {
        let text = format!(
            r#"(component (core module $m {fields} (func (export "f") (param i32 i32 i32 i32 i32) (result i32) {resolve}
               local.get 0)) (core instance $i (instantiate $m))
               (func (export "resolve") (param "a" u32) (canon lift (core func $i "f"))))"#
        );
        scan(&wat::parse_str(text).unwrap()).map(drop)
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
            let work = super::super::check::work(wasm);
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
