// The example dialect: one op. What passes ask of it are MILI's interfaces.
include "mlir/IR/OpBase.td"
include "mlir/Interfaces/SideEffectInterfaces.td"
include "mili/IR/MiliInterfaces.td"

def Example_Dialect : Dialect {
  let name = "example";
  let cppNamespace = "::example";
}

def Example_NormOp : Op<Example_Dialect, "norm", [
    Pure, AllTypesMatch<["input", "result"]>,
    DeclareOpInterfaceMethods<FusibleOpInterface, ["getHeroPriority", "acceptsEpilogue"]>,
    DeclareOpInterfaceMethods<CostedOpInterface>]> {
  let summary = "RMS norm of whole rows (arXiv 1910.07467), by kernels of its own";
  let description = [{
    input and result `[T][features]`, weight `[features]`: `input / sqrt(mean(input^2) + eps) * weight`.

    ```mlir
    %n = example.norm %x, %g eps 1.0e-6 : tensor<?x128xf32>, tensor<128xbf16>
    ```
  }];
  let arguments = (ins 2DTensorOf<[AnyFloat]>:$input, 1DTensorOf<[AnyFloat]>:$weight, F32Attr:$eps);
  let results = (outs 2DTensorOf<[AnyFloat]>:$result);
  let assemblyFormat = "$input `,` $weight `eps` $eps attr-dict `:` type($input) `,` type($weight)";
}
