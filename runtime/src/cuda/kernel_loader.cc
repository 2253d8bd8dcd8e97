#include "kernel_loader.h"

#include "mili/schema/cuda_generated.h"
#include "mili/schema/plan_generated.h"

#include <chrono>

namespace mili::cuda {

StatusOr<Sources> read_sources(const Plan &plan) {
  for (uint32_t i = 0; i < plan.sections().size(); ++i) {
    if (plan.sections()[i].kind != static_cast<uint32_t>(SectionKind::kCudaSource))
      continue;
    MILI_ASSIGN_OR_RETURN(std::vector<std::byte> bytes, plan.copy_section(i));
    flatbuffers::Verifier verifier(reinterpret_cast<const uint8_t *>(bytes.data()), bytes.size());
    if (!verifier.VerifyBuffer<plan::CudaSources>(nullptr))
      return data_loss(plan.path() + ": CUDA_SOURCE: not well formed");
    const auto *sources = flatbuffers::GetRoot<plan::CudaSources>(bytes.data());
    Sources result;
    for (const plan::SourceFile *file : *sources->headers())
      result.headers.push_back({file->name()->str(), file->text()->str()});
    for (const plan::SourceFile *file : *sources->units())
      result.units.push_back({file->name()->str(), file->text()->str()});
    result.hash = plan.sections()[i].hash;
    return result;
  }
  return unavailable(plan.path() + ": the plan has no CUDA source; compile it with --target cuda");
}

StatusOr<std::map<std::string, std::string>> read_images(const Plan &plan, int major, int minor, uint64_t source_hash,
                                                         std::string &available) {
  std::map<std::string, std::string> images;
  for (uint32_t i = 0; i < plan.sections().size(); ++i) {
    if (plan.sections()[i].kind != static_cast<uint32_t>(SectionKind::kCubins))
      continue;
    MILI_ASSIGN_OR_RETURN(std::vector<std::byte> bytes, plan.copy_section(i));
    flatbuffers::Verifier verifier(reinterpret_cast<const uint8_t *>(bytes.data()), bytes.size());
    if (!verifier.VerifyBuffer<plan::Cubins>(nullptr))
      return data_loss(plan.path() + ": CUBINS: not well formed");
    const auto *cubins = flatbuffers::GetRoot<plan::Cubins>(bytes.data());
    available += (available.empty() ? "" : ", ") + cubins->arch()->str();
    if (!runs_on(cubins->arch()->string_view(), major, minor) || cubins->source_hash() != source_hash)
      continue;
    for (const plan::Cubin *cubin : *cubins->cubins())
      images.try_emplace(cubin->unit()->str(), reinterpret_cast<const char *>(cubin->image()->data()),
                         cubin->image()->size());
  }
  return images;
}

StatusOr<std::map<std::string, std::string>> load_images(const Plan &plan, int major, int minor,
                                                         const CudaOptions &options, ModuleLoadReport &report) {
  const auto begin = std::chrono::steady_clock::now();
  MILI_ASSIGN_OR_RETURN(Sources sources, read_sources(plan));
  const std::string arch = architecture_for(major, minor);
  std::string available;
  MILI_ASSIGN_OR_RETURN(auto images, read_images(plan, major, minor, sources.hash, available));
  if (!options.use_cubins)
    images.clear();
  report.kernels = static_cast<uint32_t>(sources.units.size());
  std::vector<const SourceText *> missing;
  for (const SourceText &unit : sources.units)
    if (images.contains(unit.name))
      ++report.from_plan;
    else
      missing.push_back(&unit);
  if (!missing.empty()) {
    auto nvrtc = Nvrtc::get();
    if (!nvrtc.ok())
      return unavailable(plan.path() + ": the plan has images for " + (available.empty() ? "no GPU" : available) +
                         ", this GPU is " + arch + ", and " + nvrtc.status().message() +
                         "; or compile the plan with --target cuda:" + arch);
    const DiskCache cache(options.cache_dir);
    std::vector<const SourceText *> compile;
    for (const SourceText *unit : missing) {
      KernelImage entry = cache.read(DiskCache::key(sources.headers, *unit, arch, (*nvrtc)->version()));
      if (entry.image.empty()) {
        compile.push_back(unit);
      } else {
        images[unit->name] = std::move(entry.image);
        ++report.from_cache;
      }
    }
    MILI_ASSIGN_OR_RETURN(std::vector<KernelImage> compiled, compile_units(**nvrtc, sources.headers, compile, arch,
                                                                           options.jit_threads, &report.cpu_seconds));
    for (size_t i = 0; i < compile.size(); ++i) {
      cache.write(DiskCache::key(sources.headers, *compile[i], arch, (*nvrtc)->version()), compiled[i]);
      images[compile[i]->name] = std::move(compiled[i].image);
      ++report.compiled;
    }
  }
  report.wall_seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return images;
}

}  // namespace mili::cuda
