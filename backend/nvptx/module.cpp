#include "backend/nvptx/module.h"

#include <algorithm>

#include "backend/lowering/describe.h"
#include "backend/lowering/hooks.h"
#include "backend/nvptx/hooks.h"
#include "diag/check.h"
#include "ir/tile_state.h"
#include "runtime/gpu_layout.h"

#include <llvm/Bitcode/BitcodeReader.h>
#include <llvm/Config/llvm-config.h>
#include <llvm/IR/Constants.h>
#include <llvm/MC/TargetRegistry.h>
#include <llvm/Support/TargetSelect.h>
#include <llvm/Support/xxhash.h>

namespace flexc::nvptx {

namespace {

constexpr const char* kTriple = "nvptx64-nvidia-cuda";
// The first that has all of the architecture; every later driver takes it.
const char* ptx_feature(Arch arch) {
    return arch == Arch::Sm90a ? "+ptx80" : "+ptx70";
}

std::unique_ptr<llvm::TargetMachine> make_machine(Arch arch) {
    static const llvm::Target* const target = [] {
        LLVMInitializeNVPTXTargetInfo();
        LLVMInitializeNVPTXTarget();
        LLVMInitializeNVPTXTargetMC();
        LLVMInitializeNVPTXAsmPrinter();
        std::string error;
        return llvm::TargetRegistry::lookupTarget(kTriple, error);
    }();
    FLEX_CHECK(target, "LLVM has the NVPTX target");
    return std::unique_ptr<llvm::TargetMachine>(target->createTargetMachine(
        kTriple, name(arch), ptx_feature(arch), llvm::TargetOptions(), llvm::Reloc::PIC_, std::nullopt, llvm::CodeGenOptLevel::Default));
}

/// Reads the bodies that the kernels refer to, and drops the others.
void keep_reachable(llvm::Module& module, llvm::ArrayRef<llvm::Function*> kernels) {
    for (bool changed = true; changed;) {
        changed = false;
        for (llvm::Function& function : module) {
            if (!function.isMaterializable()) continue;
            if (function.use_empty() && !llvm::is_contained(kernels, &function)) continue;
            llvm::Error error = function.materialize();
            FLEX_CHECK(!error, "the embedded bitcode is sound");
            changed = true;
        }
    }
    for (llvm::Function& function : llvm::make_early_inc_range(module))
        if (function.isMaterializable()) function.eraseFromParent();
    llvm::Error error = module.materializeAll();
    FLEX_CHECK(!error, "the embedded bitcode is sound");
}

int constant(llvm::Module& module, const char* name) {
    const llvm::GlobalVariable* global = module.getNamedGlobal(name);
    FLEX_CHECK(global && global->hasInitializer(), "the skeleton has the constant");
    const auto* value = llvm::dyn_cast<llvm::ConstantInt>(global->getInitializer());
    FLEX_CHECK(value, "the skeleton's constant is an integer");
    return int(value->getSExtValue());
}

/// Gives a kernel its name, its block size and the exact size of its parameter.
/// `all_registers`: rather than what fits more blocks into a multiprocessor.
void finish_kernel(llvm::Function& kernel, const std::string& name, int threads, size_t parameter_bytes, bool all_registers) {
    llvm::LLVMContext& context = kernel.getContext();
    kernel.setName(name);
    FLEX_CHECK(kernel.arg_size() == 1 || kernel.arg_size() == 2, "a kernel takes one structure, or two where it has tensor maps");
    for (const llvm::Argument& each : kernel.args()) FLEX_CHECK(each.hasByValAttr(), "a kernel's parameters are by value");
    auto* bytes = llvm::ArrayType::get(llvm::Type::getInt8Ty(context), parameter_bytes);
    kernel.removeParamAttr(0, llvm::Attribute::ByVal);
    kernel.removeParamAttr(0, llvm::Attribute::Alignment);
    kernel.addParamAttr(0, llvm::Attribute::getWithByValType(context, bytes));
    kernel.addParamAttr(0, llvm::Attribute::getWithAlignment(context, llvm::Align(8)));
    // "minctasm" 1 lets ptxas use all registers that a block of this size can have; without it, it may spill to fit more blocks, although
    // shared memory would not let them run.
    const auto number = [&](int value) {
        return llvm::ValueAsMetadata::get(llvm::ConstantInt::get(llvm::Type::getInt32Ty(context), uint64_t(value)));
    };
    const auto annotate = [&](const char* fact, llvm::Metadata* value) {
        llvm::Metadata* const parts[] = {llvm::ValueAsMetadata::get(&kernel), llvm::MDString::get(context, fact), value};
        kernel.getParent()->getOrInsertNamedMetadata("nvvm.annotations")->addOperand(llvm::MDTuple::get(context, parts));
    };
    annotate("maxntidx", number(threads));
    if (all_registers) annotate("minctasm", number(1));
    // Tensor maps are named by their address among the parameters; without this they would be copied to local memory, which has no such address.
    if (kernel.arg_size() == 2) annotate("grid_constant", llvm::MDTuple::get(context, {number(2)}));
}

}  // namespace

std::string_view name(Arch arch) {
    switch (arch) {
        case Arch::Sm80: return "sm_80";
        case Arch::Sm90a: return "sm_90a";
    }
    return "";
}

std::string_view ptx_version(Arch arch) {
    return arch == Arch::Sm90a ? "8.0" : "7.0";
}

size_t parameter_bytes(const ir::Attention& attention, const Instance& instance) {
    const size_t bytes = parameter_bytes(attention);
    return instance.map_columns > 0 ? flex::gpu_bytes_with_maps(bytes) : bytes;
}

size_t parameter_bytes(const ir::Attention& attention_in, bool backward) {
    ir::Attention attention = attention_in;
    const size_t summaries = ir::tile_state(attention).summaries.size();
    return flex::gpu_layout(codegen::describe(attention), summaries, backward).bytes;
}

namespace {

std::string identity(Arch arch, std::string_view name, std::string_view bitcode) {
    const uint64_t hash = llvm::xxh3_64bits(llvm::ArrayRef(reinterpret_cast<const uint8_t*>(bitcode.data()), bitcode.size()));
    return std::string(kTriple) + " " + std::string(name) + " " + ptx_feature(arch) + " " LLVM_VERSION_STRING " " + std::to_string(hash);
}

/// A skeleton with its hooks filled in, and what the attention brought.
struct Filled {
    Unit unit;
    size_t parameter_bytes = 0;
    std::vector<int32_t> summary_flags;
};
Filled fill_skeleton(const ir::Attention& attention_in, Arch arch, std::string_view bitcode, bool backward) {
    Filled out;
    Unit& unit = out.unit;
    unit.machine = make_machine(arch);
    unit.context = std::make_unique<llvm::LLVMContext>();
    unit.context->setDiscardValueNames(true);
    auto module = llvm::getLazyBitcodeModule(llvm::MemoryBufferRef({bitcode.data(), bitcode.size()}, "skeleton"), *unit.context);
    FLEX_CHECK(bool(module), "the embedded bitcode is sound");
    unit.module = std::move(*module);
    llvm::Module& m = *unit.module;
    m.setDataLayout(unit.machine->createDataLayout());
    m.setModuleIdentifier(attention_in.name);
    m.setSourceFileName(attention_in.name);

    ir::Attention attention = attention_in;
    const ir::TileState tile_state = ir::tile_state(attention);
    const flex::GpuLayout layout = flex::gpu_layout(codegen::describe(attention), tile_state.summaries.size(), backward);
    FLEX_CHECK(layout.bytes <= flex::kGpuParameterLimit, "the caller has refused parameters that are too large");
    lower_hooks(attention, tile_state, layout, m);
    out.parameter_bytes = layout.bytes;
    for (const ir::Summary& summary : tile_state.summaries) out.summary_flags.push_back(codegen::summary_flags(summary));
    return out;
}

struct Kernel {
    const char* name;    // in the skeleton
    std::string symbol;  // in the image
    int threads;
    bool all_registers;
};

/// Keeps these kernels, under their symbols, and what they need.
void keep_kernels(llvm::Module& m, const std::vector<Kernel>& kernels, size_t parameter_bytes) {
    llvm::SmallVector<llvm::Function*, 6> functions;
    for (const Kernel& kernel : kernels) {
        llvm::Function* function = m.getFunction(kernel.name);
        FLEX_CHECK(function, "the skeleton has the kernel");
        functions.push_back(function);
    }
    keep_reachable(m, functions);
    for (size_t i = 0; i < kernels.size(); i++)
        finish_kernel(*functions[i], kernels[i].symbol, kernels[i].threads, parameter_bytes, kernels[i].all_registers);
    for (llvm::GlobalVariable& global : llvm::make_early_inc_range(m.globals()))
        if (global.use_empty()) global.eraseFromParent();
    for (llvm::Function& function : m) {
        if (function.isDeclaration() || llvm::is_contained(functions, &function)) continue;
        function.setLinkage(llvm::GlobalValue::InternalLinkage);
        function.addFnAttr(llvm::Attribute::AlwaysInline);  // lambdas, too: what they hold by reference lives in registers only then
    }
}

}  // namespace

std::string target_identity(const Options& options) {
    const Instance* instance = choose(options);
    FLEX_CHECK(instance, "the caller has asked for an instance");
    return identity(instance->arch, instance->name, instance->bitcode);
}

std::string backward_identity(const Options& options) {
    const BackwardInstance* instance = choose_backward(options);
    FLEX_CHECK(instance, "the caller has asked for an instance");
    return identity(instance->arch, instance->name, instance->bitcode) + (options.atomic ? " atomic" : "");
}

Unit build_unit(const ir::Attention& attention, const Instance& instance, Image* image) {
    FLEX_CHECK(parameter_bytes(attention, instance) <= flex::kGpuParameterLimit, "the caller has refused parameters that are too large");
    Filled filled = fill_skeleton(attention, instance.arch, instance.bitcode, false);
    llvm::Module& m = *filled.unit.module;
    image->target = name(instance.arch);
    image->dtype = instance.dtype;
    image->tf32 = instance.tf32;
    image->head_dim = instance.head_dim;
    image->v_head_dim = instance.v_head_dim;
    image->tile_q = instance.tile_q;
    image->tile_k = instance.tile_k;
    image->instance = instance.name;
    image->map_columns = instance.map_columns;
    image->threads = 32 * instance.warps;
    image->shared_bytes = instance.shared_bytes;
    image->combine_threads = constant(m, "flex_gpu_combine_threads");
    image->summarise_threads = constant(m, "flex_gpu_summarise_threads");
    image->max_pack = constant(m, "flex_gpu_max_pack");
    image->summary_flags = filled.summary_flags;
    image->forward_symbol = attention.name + "_forward";
    image->combine_symbol = attention.name + "_combine";
    if (!filled.summary_flags.empty()) image->summarise_symbol = attention.name + "_summarise";

    // Three products a step give ptxas so much to overlap that it takes any number of registers, and then some.
    const bool all_registers = instance.dtype != flex::DType::F32 || instance.tf32;
    std::vector<Kernel> kernels = {{"flex_gpu_forward", image->forward_symbol, image->threads, all_registers},
                                   {"flex_gpu_combine", image->combine_symbol, image->combine_threads, all_registers}};
    if (!image->summarise_symbol.empty())
        kernels.push_back({"flex_gpu_summarise", image->summarise_symbol, image->summarise_threads, all_registers});
    keep_kernels(m, kernels, filled.parameter_bytes);
    return std::move(filled.unit);
}

Unit build_unit(const ir::Attention& attention, const BackwardInstance& instance, bool atomic, BackwardImage* image) {
    FLEX_CHECK(attention.gradient, "the caller has differentiated the attention");
    Filled filled = fill_skeleton(attention, instance.arch, instance.bitcode, true);
    llvm::Module& m = *filled.unit.module;
    image->target = name(instance.arch);
    image->dtype = instance.dtype;
    image->tf32 = instance.tf32;
    image->atomic = atomic;
    image->head_dim = instance.head_dim;
    image->v_head_dim = instance.v_head_dim;
    image->tile_q = instance.tile_q;
    image->tile_k = instance.tile_k;
    image->summary_flags = filled.summary_flags;

    const bool has_gradients = std::any_of(attention.params.begin(), attention.params.end(), [](const ir::Param& p) { return p.grad; });
    const int query_threads = 32 * instance.query_warps;
    const bool all_registers = instance.dtype != flex::DType::F32 || instance.tf32;
    std::vector<Kernel> kernels;
    const auto keep = [&](BackwardImage::Kernel* kernel, const char* in_skeleton, const char* suffix, int threads, int shared_bytes) {
        *kernel = {attention.name + "_backward_" + suffix, threads, shared_bytes};
        kernels.push_back({in_skeleton, kernel->symbol, threads, all_registers});
    };
    if (!filled.summary_flags.empty())
        keep(&image->summarise, "flex_gpu_backward_summarise", "summarise", constant(m, "flex_gpu_summarise_threads"), 0);
    keep(&image->rows, "flex_gpu_backward_rows", "rows", query_threads, instance.query_shared_bytes);
    if (!atomic) keep(&image->queries, "flex_gpu_backward_queries", "queries", query_threads, instance.query_shared_bytes);
    keep(&image->keys, atomic ? "flex_gpu_backward_keys_atomic" : "flex_gpu_backward_keys", "keys", 32 * instance.key_warps,
         instance.key_shared_bytes);
    if (!attention.gradient->scale_reads.empty())
        keep(&image->scale, "flex_gpu_backward_scale", "scale", constant(m, "flex_gpu_scale_threads"), 0);
    if (has_gradients || atomic) keep(&image->finish, "flex_gpu_backward_finish", "finish", constant(m, "flex_gpu_finish_threads"), 0);
    keep_kernels(m, kernels, filled.parameter_bytes);
    return std::move(filled.unit);
}

}  // namespace flexc::nvptx
