#include <doctest/doctest.h>
#include <zip.h>

#include "tests/unit/io/io_test_util.h"
#include "tools/io/atomic_file.h"
#include "tools/io/convert.h"
#include "tools/io/formats.h"

using namespace flexc::io;
using namespace flexc::io::test;

namespace {

Arrays sample() {
    return {{"q", array_of<float>(FileType::F32, {1, 2}, {1.5F, -2})},
            {"n", array_of<int32_t>(FileType::I32, {}, {7})},
            {"w", array_of<uint16_t>(FileType::BF16, {2}, {0x3f80, 0xc040})},
            {"empty", array_of<uint8_t>(FileType::U8, {0, 4}, {})}};
}

/// An archive made by libzip itself, so that the reader is not tested against our writer alone.
void make_zip(const std::filesystem::path& path, const std::vector<std::pair<std::string, std::string>>& members, zip_int32_t method) {
    int error = 0;
    zip_t* archive = zip_open(path.c_str(), ZIP_CREATE | ZIP_TRUNCATE, &error);
    REQUIRE(archive);
    for (const auto& [name, text] : members) {
        const zip_int64_t index = zip_file_add(archive, name.c_str(), zip_source_buffer(archive, text.data(), text.size(), 0), 0);
        REQUIRE(zip_set_file_compression(archive, static_cast<zip_uint64_t>(index), method, 0) == 0);
    }
    REQUIRE(zip_close(archive) == 0);
}

const std::string kSmall = npy("{'descr': '<i2', 'fortran_order': False, 'shape': (3,), }\n", std::string("\1\0\2\0\3\0", 6));

}  // namespace

TEST_CASE("npz and safetensors: what is written is read back") {
    const TemporaryFolder folder;
    for (const char* file : {"a.npz", "a.safetensors"}) {
        CAPTURE(file);
        const auto status = write(folder / file, sample());
        CHECK(status.text() == "");
        Arrays out;
        REQUIRE(read(folder / file, &out).text() == "");
        REQUIRE(out.size() == 4);
        CHECK(out["q"].type == FileType::F32);
        CHECK(out["q"].shape == std::vector<int64_t>{1, 2});
        CHECK(element(out["q"], 1) == -2);
        CHECK(out["n"].shape.empty());
        CHECK(element(out["n"], 0) == 7);
        CHECK(out["w"].type == (std::string(file) == "a.npz" ? FileType::F32 : FileType::BF16));
        CHECK(element(out["w"], 1) == -3);
        CHECK(out["empty"].shape == std::vector<int64_t>{0, 4});
    }
    CHECK(folder.files() == 2);
}

TEST_CASE("npz: stored and deflated members, foreign members ignored") {
    const TemporaryFolder folder;
    for (zip_int32_t method : {ZIP_CM_STORE, ZIP_CM_DEFLATE}) {
        make_zip(folder / "a.npz", {{"x.npy", kSmall}, {"folder/y.npy", kSmall}, {"README.txt", "not an array"}}, method);
        Arrays out;
        REQUIRE(read(folder / "a.npz", &out).text() == "");
        CHECK(out.size() == 2);
        CHECK(element(out["x"], 2) == 3);
        CHECK(out.contains("folder/y"));
    }
}

TEST_CASE("npz: an array of strings is an error only for who needs it") {
    const TemporaryFolder folder;
    const std::string text = npy("{'descr': '<U1', 'fortran_order': False, 'shape': (1,), }\n", std::string("a\0\0\0", 4));
    make_zip(folder / "a.npz", {{"label.npy", text}, {"x.npy", kSmall}}, ZIP_CM_STORE);
    Arrays out;
    Unreadable unreadable;
    REQUIRE(read(folder / "a.npz", &out, &unreadable).ok());
    CHECK(out.size() == 1);
    CHECK(unreadable["label"] == "its element type, `<U1`, is not a number or bool that flexc reads");
    CHECK(read(folder / "a.npz", &out).text() == "array `label`: its element type, `<U1`, is not a number or bool that flexc reads");
}

TEST_CASE("npz: truncated at each byte, it is an error and never a crash") {
    const TemporaryFolder folder;
    for (zip_int32_t method : {ZIP_CM_STORE, ZIP_CM_DEFLATE}) {
        make_zip(folder / "a.npz", {{"x.npy", kSmall}}, method);
        const std::string whole = get(folder / "a.npz");
        for (size_t n = 0; n < whole.size(); ++n) {
            put(folder / "cut.npz", whole.substr(0, n));
            Arrays out;
            CHECK_FALSE(read(folder / "cut.npz", &out).ok());
        }
    }
}

TEST_CASE("npz: each byte changed, the answer is an error or whole arrays") {
    const TemporaryFolder folder;
    make_zip(folder / "a.npz", {{"x.npy", kSmall}}, ZIP_CM_DEFLATE);
    const std::string whole = get(folder / "a.npz");
    for (size_t at = 0; at < whole.size(); ++at) {
        for (int flip : {1, 0x80, 0xff}) {
            std::string changed = whole;
            changed[at] = static_cast<char>(changed[at] ^ flip);
            put(folder / "bad.npz", changed);
            Arrays out;
            if (!read(folder / "bad.npz", &out).ok()) continue;
            for (const auto& [name, array] : out) CHECK(array.bytes.size() == static_cast<size_t>(array.count()) * size_of(array.type));
        }
    }
}

TEST_CASE("safetensors: damaged headers are refused with the reason") {
    const TemporaryFolder folder;
    const auto error_of = [&](const std::string& header, const std::string& data, std::optional<uint64_t> length = {}) {
        const uint64_t n = length.value_or(header.size());
        put(folder / "a.safetensors", std::string(reinterpret_cast<const char*>(&n), 8) + header + data);
        Arrays out;
        return read(folder / "a.safetensors", &out).text();
    };
    CHECK(error_of(R"({"__metadata__":{"format":"pt"},"x":{"dtype":"I16","shape":[2],"data_offsets":[0,4]}})", "abcd") == "");
    CHECK(error_of(R"({"x":{"dtype":"I16","shape":[2],"data_offsets":[0,6]}})", "abcd") == "array `x`: its bytes lie outside of the file");
    CHECK(error_of(R"({"x":{"dtype":"I16","shape":[2],"data_offsets":[4,0]}})", "abcd") == "array `x`: its bytes lie outside of the file");
    CHECK(error_of(R"({"x":{"dtype":"I16","shape":[2],"data_offsets":[-4,0]}})", "abcd") == "array `x`: its bytes lie outside of the file");
    CHECK(error_of(R"({"x":{"dtype":"I16","shape":[3],"data_offsets":[0,4]}})", "abcd") ==
          "array `x`: the shape [3] of I16 does not match its 4 bytes");
    CHECK(error_of(R"({"x":{"dtype":"I16","shape":[4294967296,4294967296],"data_offsets":[0,4]}})", "abcd").find("does not match") !=
          std::string::npos);
    CHECK(error_of(R"({"x":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}})", "abcd") ==
          "array `x`: its element type, `F8_E4M3`, is not one that flexc reads");
    CHECK(error_of(R"({"x":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"y":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}})",
                   "abcd") == "two arrays overlap");
    CHECK(error_of(R"({"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"x":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                   "abcd") == "two arrays are named `x`");
    CHECK(error_of(R"({"x":7})", "abcd") == "array `x`: its entry in the header is damaged");
    CHECK(error_of("[1, 2]", "") == "the header is no JSON object");
    CHECK(error_of("{", "") == "the header is no JSON object");
    CHECK(error_of("{}", "", 1000) == "the header is cut off");
    CHECK(error_of("{}", "", UINT64_MAX) == "the header claims to be longer than 100 MB");
    CHECK(error_of(std::string(100000, '['), "") == "the header is no JSON object");
    CHECK(error_of("{\"x\":" + std::string(100000, '[') + std::string(100000, ']') + "}", "") ==
          "array `x`: its entry in the header is damaged");

    REQUIRE(write(folder / "b.safetensors", sample()).ok());
    const std::string whole = get(folder / "b.safetensors");
    for (size_t n = 0; n < whole.size(); ++n) {
        put(folder / "cut.safetensors", whole.substr(0, n));
        Arrays out;
        CHECK_FALSE(read(folder / "cut.safetensors", &out).ok());
    }
}

TEST_CASE("reading and writing: faults of the file system are errors in words") {
    const TemporaryFolder folder;
    Arrays out;
    CHECK(read(folder / "none.npz", &out).text() == "No such file or directory");
    CHECK(read(folder / "none.npy", &out).text() == "No such file or directory");
    CHECK(read(folder / "none.txt", &out).text() == "the name must end in .npz, .npy or .safetensors");
    CHECK(write(folder / "no/such/folder.npz", sample()).text() == "No such file or directory");
    CHECK(write(folder / "a.txt", sample()).text() == "the name must end in .npz or .safetensors");
    std::filesystem::create_directory(folder / "d.npz");
    CHECK(write(folder / "d.npz", sample()).text() == "it is a directory");
    CHECK(read(folder / "d.npz", &out).text() == "it is a directory");
    CHECK(folder.files() == 1);
}

TEST_CASE("an abandoned or interrupted file leaves neither itself nor harm to the old one") {
    const TemporaryFolder folder;
    put(folder / "x", "old");
    {
        AtomicFile file(folder / "x");
        REQUIRE(file.open().ok());
        REQUIRE(file.write(bytes_of("new")).ok());
        CHECK(folder.files() == 2);
    }
    CHECK(folder.files() == 1);
    CHECK(get(folder / "x") == "old");
    AtomicFile file(folder / "x");
    REQUIRE(file.open().ok());
    remove_temporaries();
    CHECK(folder.files() == 1);
    REQUIRE(write_file(folder / "y", bytes_of("text")).ok());
    CHECK(get(folder / "y") == "text");
}
