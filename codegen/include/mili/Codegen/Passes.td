//===- Passes.td - passes of code generation -----------------------*- tablegen -*-===//
#ifndef MILI_CODEGEN_PASSES
#define MILI_CODEGEN_PASSES

include "mlir/Pass/PassBase.td"

def SelectKernels : Pass<"mili-codegen-select-kernels", "::mlir::ModuleOp"> {
  let summary = "Names each group's kernel template, its launches and the layouts of its weights";
  let description = [{
    For every `mili.group` the first template of the target's registry that matches; it gives the `stages` and the
    `arena_scratch`. Every user of a weight states the layouts that it reads, best first; the first that all of them read is
    taken. A group that no template can run, and a weight without a common layout, are errors that name them.
  }];
  let options = [
    Option<"target", "target", "std::string", "\"cpu\"", "Whose templates: cpu or cuda">,
    ListOption<"kernels", "kernels", "std::string",
               "Which of several kernels a template takes, each stage=name; an unknown one lists what there is">
  ];
  let dependentDialects = ["::mlir::mili::MiliDialect"];
}

#endif
