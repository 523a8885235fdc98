#include "backend/cpu/module.h"

#include <string>

#include "backend/cpu/hooks.h"
#include "backend/cpu/skeletons.h"
#include "diag/check.h"
#include "ir/tile_state.h"
#include "ir/variance.h"
#include "runtime/abi.h"

#include <llvm/Bitcode/BitcodeReader.h>
#include <llvm/Config/llvm-config.h>
#include <llvm/IR/Constants.h>
#include <llvm/MC/TargetRegistry.h>
#include <llvm/Support/TargetSelect.h>
#include <llvm/Support/xxhash.h>
#include <llvm/TargetParser/Host.h>

namespace flexc::cpu {

namespace {

constexpr const char* kTriple = "x86_64-unknown-linux-gnu";

const char* cpu_name(flex::CpuLevel level) {
    switch (level) {
        case flex::CpuLevel::Generic: return "x86-64";
        case flex::CpuLevel::Avx2: return "x86-64-v3";
        case flex::CpuLevel::Avx512:
        case flex::CpuLevel::Avx512Bf16: return "x86-64-v4";
    }
    return "x86-64";
}

std::unique_ptr<llvm::TargetMachine> make_machine(flex::CpuLevel level) {
    static const llvm::Target* const target = [] {
        LLVMInitializeX86TargetInfo();
        LLVMInitializeX86Target();
        LLVMInitializeX86TargetMC();
        LLVMInitializeX86AsmPrinter();
        std::string error;
        return llvm::TargetRegistry::lookupTarget(kTriple, error);
    }();
    FLEX_CHECK(target, "LLVM has the x86 target");
    llvm::TargetOptions options;
    options.FunctionSections = false;
    return std::unique_ptr<llvm::TargetMachine>(target->createTargetMachine(kTriple, cpu_name(level), "", options, llvm::Reloc::PIC_,
                                                                            llvm::CodeModel::Small, llvm::CodeGenOptLevel::Default));
}

/// The CPU whose scheduling is assumed; the instruction set stays that of the level. Empty: none in particular.
std::string tuned_for(flex::CpuLevel level) {
    return level == flex::host_level() ? llvm::sys::getHostCPUName().str() : std::string();
}

/// Fits the skeleton's table to the attention: entries that it has no clause for become null, so that nothing refers to the functions behind them.
void fit_table(llvm::GlobalVariable& table, llvm::GlobalVariable& each_weights, const ir::Attention& attention) {
    const std::pair<llvm::StringRef, bool> optional[] = {{"flex_backward_block", attention.gradient.has_value()},
                                                         {"flex_backward_scale", attention.gradient.has_value()},
                                                         {"flex_row_sink", attention.sink.valid()},
                                                         {"flex_backward_sink", attention.gradient && attention.sink.valid()},
                                                         {"flex_row_query", attention.query.valid()},
                                                         {"flex_row_key", attention.key.valid()},
                                                         {"flex_row_output", attention.output.valid()}};
    auto* fields = llvm::cast<llvm::ConstantStruct>(table.getInitializer());
    auto* others = llvm::cast<llvm::ConstantArray>(each_weights.getInitializer());
    std::vector<llvm::Constant*> fitted;
    for (llvm::Use& field : fields->operands()) {
        auto* value = llvm::cast<llvm::Constant>(field.get());
        const bool absent = llvm::any_of(optional, [&](const auto& each) { return value->getName() == each.first && !each.second; });
        if (absent) value = llvm::Constant::getNullValue(value->getType());
        if (value->getName() == "flex_cpu_softmax" && attention.normalize != ir::Normalize::Softmax)
            value = others->getOperand(attention.normalize == ir::Normalize::Sigmoid ? 0 : 1);
        fitted.push_back(value);
    }
    const auto number = [&](size_t from_end, int32_t value) {
        llvm::Constant*& field = fitted[fitted.size() - from_end];
        field = llvm::ConstantInt::get(field->getType(), uint64_t(value));
    };
    constexpr int32_t kNormalize[] = {FLEX_SOFTMAX, FLEX_SIGMOID, FLEX_NONE};  // by ir::Normalize
    number(1, kNormalize[size_t(attention.normalize)]);
    number(2, attention.key.valid() && (ir::variance(attention.graph)[attention.key.value] & ir::kVariesB));
    table.setInitializer(llvm::ConstantStruct::get(fields->getType(), fitted));
    each_weights.eraseFromParent();
    for (llvm::Constant* old : {static_cast<llvm::Constant*>(fields), static_cast<llvm::Constant*>(others)}) old->destroyConstant();
}

/// Reads the bodies that something refers to, and drops the declarations of the others.
void keep_reachable(llvm::Module& module) {
    for (bool changed = true; changed;) {
        changed = false;
        for (llvm::Function& function : module) {
            if (!function.isMaterializable()) continue;
            if (function.use_empty()) continue;
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

}  // namespace

std::string target_identity(const Options& options) {
    const std::string_view bitcode = skeleton_bitcode(options.level);
    const uint64_t hash = llvm::xxh3_64bits(llvm::ArrayRef(reinterpret_cast<const uint8_t*>(bitcode.data()), bitcode.size()));
    return std::string(kTriple) + " " + flex::name(options.level) + " " + tuned_for(options.level) + " " LLVM_VERSION_STRING " " +
           std::to_string(hash);
}

Unit build_unit(const ir::Attention& attention_in, flex::CpuLevel level) {
    Unit unit;
    unit.machine = make_machine(level);
    unit.context = std::make_unique<llvm::LLVMContext>();
    unit.context->setDiscardValueNames(true);
    const std::string_view bitcode = skeleton_bitcode(level);
    auto module = llvm::getLazyBitcodeModule(llvm::MemoryBufferRef({bitcode.data(), bitcode.size()}, "skeleton"), *unit.context);
    FLEX_CHECK(bool(module), "the embedded bitcode is sound");
    unit.module = std::move(*module);
    llvm::Module& m = *unit.module;
    m.setDataLayout(unit.machine->createDataLayout());
    m.setModuleIdentifier(attention_in.name);
    m.setSourceFileName(attention_in.name);

    ir::Attention attention = attention_in;
    const ir::TileState tile_state = ir::tile_state(attention);
    codegen::Target target;
    target.lanes = flex::lanes(level);
    target.gather = level >= flex::CpuLevel::Avx512;
    target.half = level >= flex::CpuLevel::Avx2;
    lower_hooks(attention, tile_state, target, m);
    llvm::GlobalVariable* table = m.getNamedGlobal("flex_cpu_table");
    llvm::GlobalVariable* each_weights = m.getNamedGlobal("flex_each_weights");
    FLEX_CHECK(table && each_weights, "the skeleton has its table, and what may stand in it");
    fit_table(*table, *each_weights, attention);
    keep_reachable(m);

    table->setName("flex_cpu_kernel_" + attention.name);
    const std::string host = tuned_for(level);
    for (llvm::Function& function : m) {
        if (function.isDeclaration()) continue;
        function.setLinkage(llvm::GlobalValue::InternalLinkage);
        function.setDSOLocal(true);
        if (!host.empty()) function.addFnAttr("tune-cpu", host);
    }
    return unit;
}

}  // namespace flexc::cpu
