#include "ech/key_rotation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <vector>

namespace tunnel::ech {
namespace {

using std::chrono::hours;
using std::chrono::seconds;
using std::chrono::system_clock;
using ::testing::HasSubstr;

class KeyRotationTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "key_rotation_XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
    now_ = system_clock::time_point(std::chrono::duration_cast<seconds>(system_clock::now().time_since_epoch()));
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  // Puts a key into the directory that is `age` old, under a name of its own or one of this program.
  std::filesystem::path Put(seconds age, const std::string& name = "") {
    auto key = GenerateKey("outer.test", 64, {}, now_ - age);
    EXPECT_TRUE(key.ok());
    const std::filesystem::path path = root_ / (name.empty() ? KeyFileName(*key) : name);
    EXPECT_TRUE(SaveKey(*key, path).ok());
    Age(path, age);
    return path;
  }
  void Age(const std::filesystem::path& path, seconds age) const {
    std::filesystem::last_write_time(path, std::filesystem::file_time_type::clock::now() - age);
  }
  KeyLook Look(const KeyPolicy& policy) {
    auto look = LookAfterKeys(root_, policy, now_);
    EXPECT_TRUE(look.ok()) << look.status();
    return *std::move(look);
  }
  [[nodiscard]] size_t Files() const {
    size_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator(root_)) count += entry.is_regular_file() ? 1 : 0;
    return count;
  }
  static KeyPolicy Rotating(seconds period, seconds delay = seconds(0)) {
    return {.rotate = period, .publish_delay = delay, .public_name = "outer.test"};
  }

  std::filesystem::path root_;
  system_clock::time_point now_;
};

TEST_F(KeyRotationTest, WithoutRotationNothingIsMadeOrRemoved) {
  Put(hours(1000));
  Put(hours(2000));
  const KeyLook look = Look({.public_name = "outer.test"});
  EXPECT_EQ(look.store.keys().size(), 2U);
  EXPECT_FALSE(look.next.has_value());
  EXPECT_TRUE(look.events.empty());
}

TEST_F(KeyRotationTest, TheNewestGetsASuccessorAtItsAge) {
  Put(hours(23));
  KeyLook young = Look(Rotating(hours(24)));
  EXPECT_EQ(young.store.keys().size(), 1U);
  ASSERT_TRUE(young.next.has_value());
  EXPECT_NEAR(std::chrono::duration<double>(*young.next - now_).count(), 3600, 2);

  Put(hours(25), "by-hand.ech");
  const KeyLook still = Look(Rotating(hours(24)));
  EXPECT_EQ(still.store.keys().size(), 2U) << "the newest counts";

  now_ += hours(2);
  const KeyLook old = Look(Rotating(hours(24)));
  EXPECT_EQ(old.store.keys().size(), 3U);
  EXPECT_EQ(old.store.newest().public_name(), "outer.test");
  EXPECT_TRUE(IsMadeKeyFileName(old.store.files()[0].filename().string()));
  EXPECT_THAT(old.events, ::testing::ElementsAre(HasSubstr("made an ECH key")));
  std::set<uint8_t> ids;
  for (const EchKey& key : old.store.keys()) ids.insert(key.configs()[0].config_id);
  EXPECT_EQ(ids.size(), 3U) << "ids that are the same cost trial decryptions";
}

TEST_F(KeyRotationTest, KeysGoWhenNobodyCanHaveThemCached) {
  Put(hours(1));
  const auto replaced_lately = Put(hours(49));    // by the one above, an hour ago
  const auto replaced_long_ago = Put(hours(97));  // by the one above, 49 hours ago
  const auto by_hand = Put(hours(5000), "mine.ech");
  const KeyLook look = Look(Rotating(hours(48)));
  EXPECT_EQ(look.store.keys().size(), 3U);
  EXPECT_TRUE(std::filesystem::exists(replaced_lately));
  EXPECT_FALSE(std::filesystem::exists(replaced_long_ago));
  EXPECT_TRUE(std::filesystem::exists(by_hand)) << "what this program did not make it does not remove";
  EXPECT_THAT(look.events, ::testing::ElementsAre(HasSubstr("removed an ECH key")));
}

TEST_F(KeyRotationTest, ThePublishDelayKeepsThemLonger) {
  Put(hours(1));
  const auto replaced = Put(hours(60));
  Put(hours(49));
  EXPECT_EQ(Look(Rotating(hours(1000), hours(2))).store.keys().size(), 3U) << "replaced 47 hours ago";
  EXPECT_TRUE(std::filesystem::exists(replaced));
  now_ += hours(2);
  EXPECT_EQ(Look(Rotating(hours(1000), hours(2))).store.keys().size(), 2U);
}

TEST_F(KeyRotationTest, ThereAreNeverTooMany) {
  for (size_t i = 0; i < kMadeKeyLimit + 4; ++i) Put(seconds(60 * (i + 1)));
  const auto by_hand = Put(hours(3), "mine.ech");
  const KeyLook look = Look(Rotating(seconds(30)));
  EXPECT_EQ(look.store.keys().size(), kMadeKeyLimit + 1);
  EXPECT_TRUE(std::filesystem::exists(by_hand));
  EXPECT_EQ(Files(), kMadeKeyLimit + 1);
}

TEST_F(KeyRotationTest, AKeyIsPublishedWhenItHasBeenThereForTheDelay) {
  Put(hours(10));
  Put(seconds(20));
  Put(seconds(5));
  const KeyLook all = Look({.publish_delay = seconds(60), .public_name = "outer.test"});
  EXPECT_EQ(&all.store.published(), &all.store.keys()[2]);
  ASSERT_TRUE(all.next.has_value());
  EXPECT_NEAR(std::chrono::duration<double>(*all.next - now_).count(), 40, 2);
  const KeyLook one = Look({.publish_delay = seconds(10), .public_name = "outer.test"});
  EXPECT_EQ(&one.store.published(), &one.store.keys()[1]);
  const KeyLook none = Look({.publish_delay = seconds(0), .public_name = "outer.test"});
  EXPECT_EQ(&none.store.published(), &none.store.keys()[0]);
  EXPECT_FALSE(none.next.has_value());
  EXPECT_TRUE(none.store.SameAs(none.store));
  EXPECT_FALSE(none.store.SameAs(one.store)) << "another is published";
}

TEST_F(KeyRotationTest, OnlyYoungKeysAreNoReasonToPublishNothing) {
  Put(seconds(5));
  Put(seconds(3));
  const KeyLook look = Look({.publish_delay = hours(1), .public_name = "outer.test"});
  EXPECT_EQ(&look.store.published(), &look.store.keys()[1]) << "the oldest, which others have had the longest";
}

TEST_F(KeyRotationTest, ABadFileFailsTheLookAndChangesNothing) {
  Put(hours(100));
  std::ofstream(root_ / "half.ech") << "-----BEGIN PRIVATE KEY-----\n";
  const auto look = LookAfterKeys(root_, Rotating(hours(1)), now_);
  ASSERT_FALSE(look.ok());
  EXPECT_THAT(std::string(MessageOf(look.status())), HasSubstr("half.ech"));
  EXPECT_EQ(Files(), 2U);
}

TEST_F(KeyRotationTest, NamesOfMadeFiles) {
  auto key = GenerateKey("outer.test", 64, {}, now_);
  ASSERT_TRUE(key.ok());
  EXPECT_TRUE(IsMadeKeyFileName(KeyFileName(*key)));
  for (const char* name : {"", ".ech", "mine.ech", "20261123T101112.345Z-3g.ech", "20261123T101112.345Z-3a.pem",
                           "x20261123T101112.345Z-3a.ech", "20261123T101112.345Z-3A.ech"}) {
    EXPECT_FALSE(IsMadeKeyFileName(name)) << name;
  }
}

TEST_F(KeyRotationTest, NamesArePaddedToTheLongest) {
  EXPECT_EQ(MaximumNameLengthFor({}), kDefaultMaximumNameLength);
  EXPECT_EQ(MaximumNameLengthFor(std::vector<std::string>{"a.test"}), kDefaultMaximumNameLength);
  EXPECT_EQ(MaximumNameLengthFor(std::vector<std::string>{"a.test", std::string(100, 'a')}), 100);
  EXPECT_EQ(MaximumNameLengthFor(std::vector<std::string>{std::string(300, 'a')}), 255);
}

}  // namespace
}  // namespace tunnel::ech
