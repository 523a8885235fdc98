#include "backend/nvptx/module.h"

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
constexpr const char* kPtxVersion = "+ptx70";  // the first that has all of sm_80; every later driver takes it

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
        kTriple, name(arch), kPtxVersion, llvm::TargetOptions(), llvm::Reloc::PIC_, std::nullopt, llvm::CodeGenOptLevel::Default));
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
    FLEX_CHECK(kernel.arg_size() == 1 && kernel.getArg(0)->hasByValAttr(), "a kernel takes one structure by value");
    auto* bytes = llvm::ArrayType::get(llvm::Type::getInt8Ty(context), parameter_bytes);
    kernel.removeParamAttr(0, llvm::Attribute::ByVal);
    kernel.removeParamAttr(0, llvm::Attribute::Alignment);
    kernel.addParamAttr(0, llvm::Attribute::getWithByValType(context, bytes));
    kernel.addParamAttr(0, llvm::Attribute::getWithAlignment(context, llvm::Align(8)));
    // "minctasm" 1 lets ptxas use all registers that a block of this size can have; without it, it may spill to fit more blocks, although
    // shared memory would not let them run.
    llvm::SmallVector<std::pair<const char*, int>, 2> facts = {{"maxntidx", threads}};
    if (all_registers) facts.emplace_back("minctasm", 1);
    for (const auto& [fact, value] : facts) {
        auto* number = llvm::ConstantInt::get(llvm::Type::getInt32Ty(context), uint64_t(value));
        llvm::Metadata* const parts[] = {llvm::ValueAsMetadata::get(&kernel), llvm::MDString::get(context, fact),
                                         llvm::ValueAsMetadata::get(number)};
        kernel.getParent()->getOrInsertNamedMetadata("nvvm.annotations")->addOperand(llvm::MDTuple::get(context, parts));
    }
}

}  // namespace

std::string_view name(Arch arch) {
    switch (arch) {
        case Arch::Sm80: return "sm_80";
    }
    return "";
}

size_t parameter_bytes(const ir::Attention& attention_in, bool backward) {
    ir::Attention attention = attention_in;
    const size_t summaries = ir::tile_state(attention).summaries.size();
    return flex::gpu_layout(codegen::describe(attention), summaries, backward).bytes;
}

std::string target_identity(const Options& options) {
    const Instance* instance = choose(options);
    FLEX_CHECK(instance, "the caller has asked for an instance");
    const std::string_view bitcode = instance->bitcode;
    const uint64_t hash = llvm::xxh3_64bits(llvm::ArrayRef(reinterpret_cast<const uint8_t*>(bitcode.data()), bitcode.size()));
    return std::string(kTriple) + " " + std::string(instance->name) + " " + kPtxVersion + " " LLVM_VERSION_STRING " " +
           std::to_string(hash);
}

Unit build_unit(const ir::Attention& attention_in, const Instance& instance, Image* image) {
    Unit unit;
    unit.machine = make_machine(instance.arch);
    unit.context = std::make_unique<llvm::LLVMContext>();
    unit.context->setDiscardValueNames(true);
    const llvm::MemoryBufferRef bitcode({instance.bitcode.data(), instance.bitcode.size()}, "skeleton");
    auto module = llvm::getLazyBitcodeModule(bitcode, *unit.context);
    FLEX_CHECK(bool(module), "the embedded bitcode is sound");
    unit.module = std::move(*module);
    llvm::Module& m = *unit.module;
    m.setDataLayout(unit.machine->createDataLayout());
    m.setModuleIdentifier(attention_in.name);
    m.setSourceFileName(attention_in.name);

    ir::Attention attention = attention_in;
    const ir::TileState tile_state = ir::tile_state(attention);
    const flex::GpuLayout layout = flex::gpu_layout(codegen::describe(attention), tile_state.summaries.size());
    FLEX_CHECK(layout.bytes <= flex::kGpuParameterLimit, "the caller has refused parameters that are too large");
    lower_hooks(attention, tile_state, layout, m);

    image->target = name(instance.arch);
    image->dtype = instance.dtype;
    image->tf32 = instance.tf32;
    image->head_dim = instance.head_dim;
    image->v_head_dim = instance.v_head_dim;
    image->tile_q = instance.tile_q;
    image->tile_k = instance.tile_k;
    image->threads = 32 * instance.warps;
    image->shared_bytes = instance.shared_bytes;
    image->combine_threads = constant(m, "flex_gpu_combine_threads");
    image->summarise_threads = constant(m, "flex_gpu_summarise_threads");
    image->max_pack = constant(m, "flex_gpu_max_pack");
    for (const ir::Summary& summary : tile_state.summaries) image->summary_flags.push_back(codegen::summary_flags(summary));

    struct Kernel {
        const char* name;
        const char* suffix;
        int threads;
        std::string* symbol;
    };
    std::vector<Kernel> kernels = {{"flex_gpu_forward", "_forward", image->threads, &image->forward_symbol},
                                   {"flex_gpu_combine", "_combine", image->combine_threads, &image->combine_symbol}};
    if (!tile_state.summaries.empty())
        kernels.push_back({"flex_gpu_summarise", "_summarise", image->summarise_threads, &image->summarise_symbol});
    llvm::SmallVector<llvm::Function*, 3> functions;
    for (const Kernel& kernel : kernels) {
        llvm::Function* function = m.getFunction(kernel.name);
        FLEX_CHECK(function, "the skeleton has the kernel");
        functions.push_back(function);
        *kernel.symbol = attention.name + kernel.suffix;
    }
    keep_reachable(m, functions);
    // Three products a step give ptxas so much to overlap that it takes any number of registers, and then some.
    const bool all_registers = instance.dtype != flex::DType::F32 || instance.tf32;
    for (size_t i = 0; i < kernels.size(); i++)
        finish_kernel(*functions[i], *kernels[i].symbol, kernels[i].threads, layout.bytes, all_registers);
    for (llvm::GlobalVariable& global : llvm::make_early_inc_range(m.globals()))
        if (global.use_empty()) global.eraseFromParent();
    for (llvm::Function& function : m)
        if (!function.isDeclaration() && !llvm::is_contained(functions, &function)) function.setLinkage(llvm::GlobalValue::InternalLinkage);
    return unit;
}

}  // namespace flexc::nvptx
