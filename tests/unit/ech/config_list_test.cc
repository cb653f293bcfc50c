#include "ech/config_list.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace tunnel::ech {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Bytes = std::vector<uint8_t>;

void PutU16(Bytes& out, size_t value) {
  out.push_back(static_cast<uint8_t>(value >> 8));
  out.push_back(static_cast<uint8_t>(value & 0xff));
}

void PutU16Prefixed(Bytes& out, const Bytes& body) {
  PutU16(out, body.size());
  out.insert(out.end(), body.begin(), body.end());
}

struct Shape {
  size_t version = kEchVersion;
  size_t kem = kKemX25519;
  size_t key_bytes = kX25519KeyBytes;
  std::vector<std::pair<size_t, size_t>> suites = {{kKdfHkdfSha256, kAeadAes128Gcm}};
  std::string name = "outer.example";
  std::vector<std::pair<size_t, Bytes>> extensions = {};
  Bytes tail = {};
};

Bytes Config(const Shape& shape) {
  Bytes contents = {7};
  PutU16(contents, shape.kem);
  PutU16Prefixed(contents, Bytes(shape.key_bytes, 0x41));
  Bytes suites;
  for (const auto& [kdf, aead] : shape.suites) {
    PutU16(suites, kdf);
    PutU16(suites, aead);
  }
  PutU16Prefixed(contents, suites);
  contents.push_back(64);
  contents.push_back(static_cast<uint8_t>(shape.name.size()));
  contents.insert(contents.end(), shape.name.begin(), shape.name.end());
  Bytes extensions;
  for (const auto& [type, data] : shape.extensions) {
    PutU16(extensions, type);
    PutU16Prefixed(extensions, data);
  }
  PutU16Prefixed(contents, extensions);
  contents.insert(contents.end(), shape.tail.begin(), shape.tail.end());
  Bytes config;
  PutU16(config, shape.version);
  PutU16Prefixed(config, contents);
  return config;
}

Bytes List(const std::vector<Bytes>& configs) {
  Bytes body;
  for (const Bytes& config : configs) body.insert(body.end(), config.begin(), config.end());
  Bytes list;
  PutU16Prefixed(list, body);
  return list;
}

TEST(ConfigListTest, ReadsEveryField) {
  const Shape shape{.suites = {{1, 1}, {1, 3}, {9, 9}}, .extensions = {{0x1234, {1, 2}}}};
  const auto list = ParseConfigList(List({Config(shape)}));
  ASSERT_TRUE(list.ok()) << list.status();
  ASSERT_EQ(list->usable.size(), 1U);
  const EchConfig& config = list->usable[0];
  EXPECT_EQ(config.version, kEchVersion);
  EXPECT_EQ(config.config_id, 7);
  EXPECT_EQ(config.kem_id, kKemX25519);
  EXPECT_EQ(config.public_key, Bytes(32, 0x41));
  EXPECT_THAT(config.cipher_suites, ElementsAre(HpkeSuite{1, 1}, HpkeSuite{1, 3}, HpkeSuite{9, 9}));
  EXPECT_EQ(config.maximum_name_length, 64);
  EXPECT_EQ(config.public_name, "outer.example");
  EXPECT_THAT(config.extensions, ElementsAre(EchExtension{0x1234, {1, 2}}));
  EXPECT_EQ(config.raw, Config(shape));
  EXPECT_TRUE(list->skipped.empty());
  EXPECT_EQ(DescribeConfig(config),
            "id 7, public name outer.example, X25519 with HKDF-SHA256, AES-128-GCM, ChaCha20-Poly1305, 0x0009/0x0009, "
            "names padded to 64, 1 optional extensions");
}

TEST(ConfigListTest, SkipsByRuleAndSaysWhy) {
  const std::vector<std::pair<Shape, std::string>> cases = {
      {{.version = 0xfe0c}, "version 0xfe0c"},
      {{.kem = 0x0010, .key_bytes = 65}, "KEM 0x0010"},
      {{.key_bytes = 31}, "31 bytes"},
      {{.suites = {{1, 9}, {3, 1}}}, "cipher suites"},
      {{.extensions = {{0x8001, {}}}}, "mandatory extension 0x8001"},
      {{.extensions = {{5, {}}, {5, {}}}}, "twice"},
      {{.name = "under_score.example"}, "under_score.example"},
      {{.name = "192.0.2.1"}, "192.0.2.1"},
      {{.name = "host.0x7f"}, "host.0x7f"},
      {{.name = std::string("a\nb\0c", 5)}, "'a.b.c'"},
  };
  for (const auto& [shape, reason] : cases) {
    const Bytes alone = List({Config(shape)});
    const auto nothing = ParseConfigList(alone);
    EXPECT_EQ(nothing.status().code(), absl::StatusCode::kNotFound) << reason;
    EXPECT_THAT(std::string(MessageOf(nothing.status())), HasSubstr(reason));

    const auto list = ParseConfigList(List({Config(shape), Config({})}));
    ASSERT_TRUE(list.ok()) << reason;
    EXPECT_EQ(list->usable.size(), 1U);
    EXPECT_THAT(list->skipped, ElementsAre(HasSubstr(reason)));
    const auto filtered = FilterUsable(List({Config({}), Config(shape), Config({})}));
    ASSERT_TRUE(filtered.ok());
    EXPECT_EQ(*filtered, List({Config({}), Config({})}));
  }
}

// A list can end, or be followed, at any byte: only the whole of it is one.
TEST(ConfigListTest, EveryPrefixAndEverySuffixIsMalformed) {
  const Bytes whole = List({Config({}), Config({.extensions = {{1, {2, 3}}}})});
  ASSERT_TRUE(ParseConfigList(whole).ok());
  for (size_t length = 0; length < whole.size(); ++length) {
    const Bytes prefix(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length));
    EXPECT_EQ(ParseConfigList(prefix).status().code(), absl::StatusCode::kInvalidArgument) << length;
  }
  Bytes longer = whole;
  longer.push_back(0);
  EXPECT_EQ(ParseConfigList(longer).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(ConfigListTest, BrokenContentsAreSkipped) {
  const std::vector<Bytes> bad = {
      Config({.key_bytes = 0}), Config({.suites = {}}), Config({.name = ""}), Config({.tail = {0}}), {0xfe, 0x0d, 0, 0},
  };
  for (const Bytes& config : bad) {
    const auto list = ParseConfigList(List({config, Config({})}));
    ASSERT_TRUE(list.ok()) << list.status();
    EXPECT_EQ(list->usable.size(), 1U);
    EXPECT_THAT(list->skipped, ElementsAre(HasSubstr("config 1: malformed: ")));
    EXPECT_EQ(ParseConfigList(List({config})).status().code(), absl::StatusCode::kNotFound) << "none is left";
  }
  // Contents of another version are opaque.
  EXPECT_TRUE(ParseConfigList(List({{0xfe, 0x0c, 0, 1, 0xff}, Config({})})).ok());
  EXPECT_EQ(ParseConfigList(Bytes{0, 0}).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(ConfigListTest, PublicNames) {
  const std::string label63(63, 'a');
  for (const std::string& good : {std::string("a"), std::string("localhost"), std::string("xn--bcher-kva.example"),
                                  std::string("1.2.3.4a"), std::string("0xg"), label63 + ".b"}) {
    EXPECT_TRUE(IsValidPublicName(good)) << good;
  }
  for (const std::string& bad :
       {std::string(), std::string("."), std::string("a."), std::string(".a"), std::string("a..b"), std::string("-a.b"),
        std::string("a-.b"), std::string("a b"), std::string("1.2.3.4"), std::string("1"), std::string("a.0x"),
        std::string("a.0XfF"), label63 + "a", std::string("*.example"), std::string("::1"),
        fmt::format("{0}.{0}.{0}.{0}", label63)}) {
    EXPECT_FALSE(IsValidPublicName(bad)) << bad;
  }
}

}  // namespace
}  // namespace tunnel::ech
