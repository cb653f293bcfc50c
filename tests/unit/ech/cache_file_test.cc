#include "ech/cache_file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

namespace tunnel::ech {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

core::SocketAddress At(std::string_view ip, uint16_t port) { return *core::SocketAddress::Parse(ip, port); }

CacheEntry MakeEntry(const std::string& host, int64_t stored = 1'800'000'000) {
  CacheEntry entry;
  entry.key = {.host = host, .port = 443, .ech_name = host};
  entry.config = SavedConfig{.stored_seconds = stored, .expires_seconds = stored + 300, .list = {0, 1, 2, 3}};
  entry.addresses = SavedAddresses{.stored_seconds = stored,
                                   .expires_seconds = stored + 60,
                                   .addresses = {At("2001:db8::1", 443), At("192.0.2.1", 8443)}};
  return entry;
}

// The worked example of docs/ech-cache.md.
constexpr std::string_view kExample =
    "ech-tunnel ech-cache 1\n"
    "server secret.example 443 secret.example\n"
    "list retry 1800000000 1800003600 AAECAw==\n"
    "rejected AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"
    "addresses 1800000000 1800000060 [2001:db8::1]:443 192.0.2.1:8443\n"
    "server other.example 8443 cloudflare-ech.com\n"
    "list dns 1700000000 1700000300 AAECAw==\n"
    "end\n";

TEST(CacheFileTest, WorkedExample) {
  const auto entries = ParseCacheFile(kExample);
  ASSERT_TRUE(entries.ok()) << entries.status();
  ASSERT_EQ(entries->size(), 2U);
  CacheEntry expected = MakeEntry("secret.example");
  expected.config->origin = ConfigOrigin::kRetryConfigs;
  expected.config->expires_seconds += 3300;
  Sha256Digest digest{};
  for (size_t i = 0; i < digest.size(); ++i) digest[i] = static_cast<uint8_t>(i);
  expected.config->rejected = {digest};
  EXPECT_EQ(entries->front(), expected);
  EXPECT_EQ(entries->back().key, (CacheKey{.host = "other.example", .port = 8443, .ech_name = "cloudflare-ech.com"}));
  EXPECT_FALSE(entries->back().addresses);
  EXPECT_EQ(FormatCacheFile(*entries), kExample);
}

TEST(CacheFileTest, WhatIsCutShortIsRefused) {
  for (size_t length = 0; length < kExample.size(); ++length) {
    EXPECT_FALSE(ParseCacheFile(kExample.substr(0, length)).ok()) << length;
  }
  EXPECT_FALSE(ParseCacheFile(std::string(kExample) + "\n").ok());
  EXPECT_FALSE(ParseCacheFile(std::string(kExample) + "end\n").ok());
  EXPECT_TRUE(ParseCacheFile("ech-tunnel ech-cache 1\nend\n")->empty());
}

TEST(CacheFileTest, RefusesWhatItWouldNotWrite) {
  const auto status = [](const std::string& lines) {
    return ParseCacheFile(fmt::format("ech-tunnel ech-cache 1\n{}end\n", lines)).status();
  };
  const std::string server = "server a.b 443 a.b\n";
  const std::string list = "list dns 1 2 AAECAw==\n";
  const std::string digest = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
  ASSERT_TRUE(status(server + list).ok());
  for (const std::string& bad : {
           list,
           std::string("server a.b 443\n"),
           std::string("server a.b 443 a.b \n"),
           std::string("server a.b  443 a.b\n"),
           std::string("server A.b 443 a.b\n"),
           std::string("server a.b 0 a.b\n"),
           std::string("server a.b 0443 a.b\n"),
           std::string("server a.b 65536 a.b\n"),
           std::string("server  443 a.b\n"),
           "server " + std::string(254, 'a') + " 443 a.b\n",
           server + server,
           server + list + list,
           server + "list static 1 2 AAECAw==\n",
           server + "list dns 2 1 AAECAw==\n",
           server + "list dns -1 1 AAECAw==\n",
           server + "list dns 1 99999999999999999999 AAECAw==\n",
           server + "list dns 1 253402300800 AAECAw==\n",
           server + "list dns 1 2 AAECAw\n",
           server + "list dns 1 2 AAECAw== \n",
           server + "list dns 1 2 \n",
           server + "list dns 1 2\n",
           server + "list dns 1 2 " + std::string(16 * 1024, 'A') + "\n",
           server + "rejected " + digest + "\n",
           server + list + "rejected AAECAw==\n",
           server + list + "rejected " + digest + "\nrejected " + digest + "\n",
           server + "addresses 1 2\n",
           server + "addresses 1 2 \n",
           server + "addresses 1 2 192.0.2.1\n",
           server + "addresses 1 2 192.0.2.1:0\n",
           server + "addresses 1 2 192.0.2.1:+1\n",
           server + "addresses 1 2 2001:db8::1:443\n",
           server + "addresses 1 2 [2001:DB8::1]:443\n",
           server + "addresses 1 2 [192.0.2.1]:443\n",
           server + "addresses 1 2 example:443\n",
           server + "addresses 1 2 192.0.2.1:1\naddresses 1 2 192.0.2.1:1\n",
           server + "addresses 1 2 192.0.2.1:1\n" + list,
           server + "unknown 1\n",
           server + "\n",
           std::string("\r\n"),
       }) {
    EXPECT_EQ(status(bad).code(), absl::StatusCode::kInvalidArgument) << bad;
  }
  EXPECT_FALSE(ParseCacheFile("ech-tunnel ech-cache 2\nend\n").ok());
  EXPECT_FALSE(ParseCacheFile(std::string(kCacheFileLimitBytes + 1, 'x')).ok());
  EXPECT_THAT(std::string(MessageOf(status(server + list + "nonsense\n"))), HasSubstr("line 4"));
}

TEST(CacheFileTest, KeepsWithinItsBounds) {
  std::vector<CacheEntry> entries;
  for (int64_t i = 0; i < static_cast<int64_t>(kCachedServers) + 10; ++i) {
    CacheEntry entry = MakeEntry(fmt::format("host{}.example", i), 1000 + i);
    entry.config->list.assign(kCachedListLimitBytes, 7);
    entry.addresses->addresses.assign(kCachedAddresses + 5, At("2001:db8:1111:2222:3333:4444:5555:6666", 65535));
    entries.push_back(std::move(entry));
  }
  const std::string text = FormatCacheFile(entries);
  EXPECT_LE(text.size(), kCacheFileLimitBytes);
  const auto parsed = ParseCacheFile(text);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  ASSERT_EQ(parsed->size(), kCachedServers);
  EXPECT_EQ(parsed->front().key.host, fmt::format("host{}.example", kCachedServers + 9));  // the oldest went
  EXPECT_EQ(parsed->back().key.host, "host10.example");
  EXPECT_EQ(parsed->front().addresses->addresses.size(), kCachedAddresses);

  CacheEntry large = MakeEntry("large.example");
  large.config->list.assign(kCachedListLimitBytes + 1, 7);
  const auto without = ParseCacheFile(FormatCacheFile({large}));
  ASSERT_TRUE(without.ok());
  EXPECT_FALSE(without->front().config);
  EXPECT_TRUE(without->front().addresses);
}

TEST(CacheFileTest, EveryAddressTheDnsMayGiveIsReadAgain) {
  CacheEntry entry = MakeEntry("a.example");
  entry.addresses->addresses = {At("::ffff:192.0.2.1", 443), At("::", 1), At("::1", 2), At("fe80::1", 3)};
  const auto parsed = ParseCacheFile(FormatCacheFile({entry}));
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->front().addresses->addresses.size(), 4U);
}

TEST(CacheFileTest, WritesNothingThatItWouldNotRead) {
  const CacheEntry good = MakeEntry("good.example");
  const auto rest = [&](CacheEntry bad) {
    const auto parsed = ParseCacheFile(FormatCacheFile({std::move(bad), good}));
    EXPECT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(parsed->back(), good);
    return *parsed;
  };
  for (const char* name : {"", "with space", "Upper.example", "new\nline"}) {
    EXPECT_EQ(rest(MakeEntry(name, 1'900'000'000)).size(), 1U) << name;
  }
  CacheEntry entry = MakeEntry("bad.example", 1'900'000'000);
  entry.config->list.clear();
  entry.addresses->addresses.push_back(At("192.0.2.1", 0));
  EXPECT_FALSE(rest(entry).front().config);
  EXPECT_FALSE(rest(entry).front().addresses);
  entry = MakeEntry("bad.example", 1'900'000'000);
  entry.config->expires_seconds = INT64_MAX;
  entry.addresses->stored_seconds = -1;
  EXPECT_FALSE(rest(entry).front().config);
  EXPECT_FALSE(rest(entry).front().addresses);
}

class CacheFileOnDiskTest : public testing::Test {
 protected:
  CacheFileOnDiskTest() {
    std::string name = testing::TempDir() + "cache_file_XXXXXX";
    EXPECT_NE(mkdtemp(name.data()), nullptr);
    root_ = name;
    path_ = root_ / "state" / kCacheFileName;
  }
  ~CacheFileOnDiskTest() override { std::filesystem::remove_all(root_); }

  absl::Status Save(const CacheEntry& entry) { return SaveCacheEntry(path_, entry, warning_); }
  std::optional<CacheEntry> Load(const std::string& host) {
    auto loaded = LoadCacheEntry(path_, {.host = host, .port = 443, .ech_name = host}, warning_);
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    return loaded.ok() ? *loaded : std::nullopt;
  }
  std::vector<std::string> Names() const {
    std::vector<std::string> names;
    for (const auto& item : std::filesystem::directory_iterator(path_.parent_path())) {
      names.push_back(item.path().filename());
    }
    std::ranges::sort(names);
    return names;
  }

  std::filesystem::path root_;
  std::filesystem::path path_;
  std::string warning_;
};

TEST_F(CacheFileOnDiskTest, KeepsWhatOthersKeep) {
  EXPECT_FALSE(Load("a.example"));
  const CacheEntry a = MakeEntry("a.example");
  const CacheEntry b = MakeEntry("b.example", 1'700'000'000);
  ASSERT_TRUE(Save(a).ok());
  ASSERT_TRUE(Save(b).ok());
  EXPECT_EQ(Load("a.example"), a);
  EXPECT_EQ(Load("b.example"), b);
  EXPECT_FALSE(Load("c.example"));
  struct stat info = {};
  ASSERT_EQ(stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777U, 0600U);

  // A part that is not there does not take the other's away.
  CacheEntry config_only = MakeEntry("a.example", 1'900'000'000);
  config_only.addresses.reset();
  ASSERT_TRUE(Save(config_only).ok());
  EXPECT_EQ(Load("a.example")->config, config_only.config);
  EXPECT_EQ(Load("a.example")->addresses, a.addresses);
  EXPECT_EQ(Load("b.example"), b);
  EXPECT_EQ(warning_, "");
  EXPECT_THAT(Names(), ElementsAre("ech-cache"));
}

TEST_F(CacheFileOnDiskTest, PutsAsideWhatItDoesNotUnderstand) {
  ASSERT_TRUE(Save(MakeEntry("a.example")).ok());
  for (const char* text : {"", "ech-tunnel ech-cache 2\nend\n", "\xff\xfe"}) {
    warning_.clear();
    std::ofstream(path_, std::ios::trunc) << text;
    EXPECT_FALSE(Load("a.example"));
    EXPECT_THAT(warning_, HasSubstr("put aside as " + path_.string() + ".bad"));
    EXPECT_THAT(Names(), ElementsAre("ech-cache.bad"));
    std::ostringstream aside;
    aside << std::ifstream(path_.string() + ".bad").rdbuf();
    EXPECT_EQ(aside.str(), text);
    std::ofstream(path_, std::ios::trunc) << text;
    warning_.clear();
    EXPECT_TRUE(Save(MakeEntry("a.example")).ok());
    EXPECT_THAT(warning_, HasSubstr("put aside"));
    EXPECT_TRUE(Load("a.example"));
  }
}

TEST_F(CacheFileOnDiskTest, DoesNotWaitForAnotherProcess) {
  ASSERT_TRUE(Save(MakeEntry("a.example")).ok());
  const int folder = open(path_.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  ASSERT_GE(folder, 0);
  ASSERT_EQ(flock(folder, LOCK_EX), 0);
  EXPECT_TRUE(absl::IsAborted(Save(MakeEntry("b.example"))));
  close(folder);
  EXPECT_TRUE(Save(MakeEntry("b.example")).ok());
}

TEST_F(CacheFileOnDiskTest, FailuresAreSaid) {
  std::filesystem::create_directories(path_);  // a folder where the file should be
  EXPECT_FALSE(Save(MakeEntry("a.example")).ok());
  EXPECT_FALSE(LoadCacheEntry(path_, {.host = "a.example", .port = 443, .ech_name = "a.example"}, warning_).ok());
  std::filesystem::remove_all(root_ / "state");
  {
    std::ofstream(root_ / "state") << "a file where the folder should be";
  }
  EXPECT_FALSE(Save(MakeEntry("a.example")).ok());
  EXPECT_THAT(warning_, IsEmpty());
}

}  // namespace
}  // namespace tunnel::ech
