//===- CudaWriter.cpp --------------------------------------------------------===//
#include "mili/Codegen/CudaWriter.h"

#include <cctype>
#include <cmath>
#include <cstdio>
#include <cstdlib>

using namespace mlir;
using namespace mlir::mili::codegen;

void CudaWriter::line(const Twine &text) {
  std::string written = text.str();
  if (!written.empty() && written[0] != '#')
    body.append(2 * depth, ' ');
  body += written;
  body += '\n';
}

void CudaWriter::open(const Twine &text) {
  line(text + " {");
  ++depth;
}

void CudaWriter::close(StringRef after) {
  --depth;
  line("}" + after.str());
}

std::string CudaWriter::unique(StringRef hint) {
  std::string name;
  for (char c : hint)
    name += std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  while (!name.empty() && name.back() == '_')
    name.pop_back();
  if (name.empty() || std::isdigit(static_cast<unsigned char>(name[0])))
    name = "v" + name;
  unsigned &count = used[name];
  std::string result = count == 0 ? name : name + "_" + std::to_string(count);
  ++count;
  if (result != name)
    ++used[result];
  return result;
}

StringRef CudaWriter::name(Value value, StringRef hint) {
  std::string &entry = names[value];
  if (entry.empty()) {
    std::string from = hint.str();
    if (auto loc = dyn_cast<NameLoc>(value.getLoc())) {
      // The last parts of "model.layers.0.mlp.up_proj.weight" say enough; the layer is not the kernel's.
      StringRef full = loc.getName().getValue();
      SmallVector<StringRef> parts;
      full.split(parts, '.');
      StringRef last = parts.back();
      if (last == "weight" && parts.size() > 1)
        last = parts[parts.size() - 2];
      if (!last.empty() && last.size() < 40)
        from = last.str();
    }
    std::string fresh = unique(from);
    names[value] = fresh;
    return names[value];
  }
  return entry;
}

std::string CudaWriter::finish(StringRef comment) const {
  std::string text;
  StringRef rest = comment.rtrim();
  while (!rest.empty()) {
    auto [head, tail] = rest.split('\n');
    text += head.empty() ? "//\n" : "// " + head.str() + "\n";
    rest = tail;
  }
  for (const std::string &header : headers)
    text += "#include \"" + header + "\"\n";
  return text + "\n" + globals + (globals.empty() ? "" : "\n") + body;
}

std::string mlir::mili::codegen::cudaFloat(float value) {
  if (std::isinf(value))
    return value > 0 ? "__int_as_float(0x7f800000)" : "__int_as_float(0xff800000)";
  char text[48];
  for (int digits = 1; digits <= 9; ++digits) {
    std::snprintf(text, sizeof(text), "%.*g", digits, value);
    if (std::strtof(text, nullptr) == value)
      break;
  }
  std::string result = text;
  if (result.find_first_of(".e") == std::string::npos)
    result += ".0";
  return result + "f";
}
