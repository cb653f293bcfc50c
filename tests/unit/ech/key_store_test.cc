#include "ech/key_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "ech/pem.h"
#include "ech/state_file.h"

namespace tunnel::ech {
namespace {

using std::chrono::system_clock;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const system_clock::time_point kNow = system_clock::time_point(std::chrono::seconds(1'790'000'000));

class KeyStoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "key_store_XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  static mode_t ModeOf(const std::filesystem::path& path) {
    struct stat info = {};
    EXPECT_EQ(::stat(path.c_str(), &info), 0) << path;
    return info.st_mode & 07777;
  }

  static EchKey Make(const std::string& name, system_clock::time_point created = kNow) {
    auto key = GenerateKey(name, kDefaultMaximumNameLength, {}, created);
    EXPECT_TRUE(key.ok()) << key.status();
    return *std::move(key);
  }

  std::filesystem::path root_;
};

TEST_F(KeyStoreTest, MadeKeyHasTheConfigItWasAskedFor) {
  std::vector<uint8_t> taken;
  for (int id = 0; id < 256; ++id) {
    if (id != 77) taken.push_back(static_cast<uint8_t>(id));
  }
  const auto key = GenerateKey("outer.example", 100, taken, kNow);
  ASSERT_TRUE(key.ok()) << key.status();
  ASSERT_EQ(key->configs().size(), 1U);
  const EchConfig& config = key->configs()[0];
  EXPECT_EQ(config.config_id, 77);
  EXPECT_EQ(config.public_name, "outer.example");
  EXPECT_EQ(config.maximum_name_length, 100);
  EXPECT_THAT(config.cipher_suites,
              ElementsAre(HpkeSuite{kKdfHkdfSha256, kAeadAes128Gcm}, HpkeSuite{kKdfHkdfSha256, kAeadChaCha20Poly1305}));
  taken.push_back(77);
  EXPECT_TRUE(GenerateKey("outer.example", 100, taken, kNow).ok());
  EXPECT_THAT(std::string(MessageOf(GenerateKey("10.0.0.1", 100, {}, kNow).status())), HasSubstr("10.0.0.1"));
}

TEST_F(KeyStoreTest, PemRoundTrip) {
  const EchKey key = Make("outer.example");
  const std::string pem = KeyToPem(key);
  EXPECT_THAT(pem, HasSubstr("-----BEGIN PRIVATE KEY-----\n"));
  EXPECT_THAT(pem, HasSubstr("-----END PRIVATE KEY-----\n-----BEGIN ECHCONFIG-----\n"));
  const auto again = KeyFromPem(pem, kNow);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->private_key(), key.private_key());
  EXPECT_EQ(again->ConfigListBytes(), key.ConfigListBytes());
  // Decoded without the code under test: RFC 8410 section 7 is a fixed prefix before the 32 bytes.
  const auto blocks = ParsePem(pem);
  ASSERT_TRUE(blocks.ok());
  const std::vector<uint8_t>& der = blocks->First(kPrivateKeyLabel)->bytes;
  std::vector<uint8_t> expected = {0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06,
                                   0x03, 0x2b, 0x65, 0x6e, 0x04, 0x22, 0x04, 0x20};
  expected.insert(expected.end(), key.private_key().begin(), key.private_key().end());
  EXPECT_EQ(der, expected);
  const auto list = ConfigListFromText(pem);
  ASSERT_TRUE(list.ok());
  EXPECT_EQ(*list, key.ConfigListBytes());
}

TEST_F(KeyStoreTest, RefusesWhatIsNotAKeyFile) {
  const EchKey key = Make("outer.example");
  const EchKey other = Make("outer.example");
  const std::string pem = KeyToPem(key);
  const std::string private_part = pem.substr(0, pem.find("-----BEGIN ECH"));
  const std::string public_part = pem.substr(private_part.size());
  const std::string other_pem = KeyToPem(other);
  const std::string other_public = other_pem.substr(other_pem.find("-----BEGIN ECH"));
  const auto message = [](const std::string& text) { return std::string(MessageOf(KeyFromPem(text, kNow).status())); };
  EXPECT_THAT(message(""), HasSubstr("0 PRIVATE KEY"));
  EXPECT_THAT(message(private_part), HasSubstr("0 ECHCONFIG"));
  EXPECT_THAT(message(public_part), HasSubstr("0 PRIVATE KEY"));
  EXPECT_THAT(message(pem + private_part), HasSubstr("2 PRIVATE KEY"));
  EXPECT_THAT(message(private_part + other_public), HasSubstr("not the one"));
  EXPECT_THAT(message(EncodePem(kPrivateKeyLabel, std::vector<uint8_t>{1, 2, 3}) + public_part), HasSubstr("PKCS#8"));
  EXPECT_THAT(message(pem.substr(0, pem.size() - 10)), HasSubstr("another's end"));
  EXPECT_THAT(message(pem.substr(0, pem.size() - 28)), HasSubstr("no end"));
}

TEST_F(KeyStoreTest, FilesAndFoldersAreForTheOwnerAlone) {
  const std::filesystem::path folder = root_ / "state" / "ech";
  const auto store = KeyStore::LoadOrCreate(folder, "outer.example", 64, kNow);
  ASSERT_TRUE(store.ok()) << store.status();
  EXPECT_TRUE(store->created_first_key());
  EXPECT_EQ(ModeOf(folder), 0700U);
  EXPECT_EQ(ModeOf(root_ / "state"), 0700U);
  const std::filesystem::path file = std::filesystem::directory_iterator(folder)->path();
  EXPECT_EQ(ModeOf(file), 0600U);
  EXPECT_EQ(file.extension(), kKeyFileExtension);
  EXPECT_EQ(file.filename().string(), KeyFileName(Make("x")).substr(0, 20) + file.filename().string().substr(20));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder), std::filesystem::directory_iterator()), 1);
  EXPECT_THAT(store->warnings(), IsEmpty());

  const auto again = KeyStore::LoadOrCreate(folder, "outer.example", 64, kNow);
  ASSERT_TRUE(again.ok());
  EXPECT_FALSE(again->created_first_key());
  EXPECT_EQ(again->PublishedList(), store->PublishedList());

  ASSERT_EQ(::chmod(file.c_str(), 0644), 0);
  const auto open = KeyStore::LoadOrCreate(folder, "other.example", 64, kNow);
  ASSERT_TRUE(open.ok());
  EXPECT_THAT(open->warnings(), ElementsAre(HasSubstr(file.string()), HasSubstr("other.example")));
}

TEST_F(KeyStoreTest, AKeyThatAnotherNodeRemovesMeanwhileIsNoError) {
  // The oldest goes: it is read last, long after the folder was listed.
  const EchKey goes = Make("outer.example");
  for (int i = 1; i <= 20; ++i) {
    const EchKey stays = Make("outer.example", kNow + std::chrono::hours(i));
    ASSERT_TRUE(SaveKey(stays, root_ / KeyFileName(stays)).ok());
  }
  // The loads are what is waited for, so that a slow machine only makes for fewer removals.
  std::atomic<bool> ended = false;
  std::thread node([&] {
    while (!ended) {
      EXPECT_TRUE(SaveKey(goes, root_ / KeyFileName(goes)).ok());
      std::filesystem::remove(root_ / KeyFileName(goes));
    }
  });
  for (int i = 0; i < 200; ++i) {
    const auto store = KeyStore::Load(root_);
    EXPECT_TRUE(store.ok()) << store.status();
  }
  ended = true;
  node.join();
}

TEST_F(KeyStoreTest, ALinkToNowhereIsAnError) {
  const EchKey key = Make("outer.example");
  ASSERT_TRUE(SaveKey(key, root_ / KeyFileName(key)).ok());
  std::filesystem::create_symlink(root_ / "nowhere", root_ / "lost.ech");
  EXPECT_THAT(KeyStore::Load(root_).status().message(), HasSubstr("lost.ech"));
}

TEST_F(KeyStoreTest, NewestIsPublishedAndAllAreAccepted) {
  std::vector<std::vector<uint8_t>> lists;
  for (int i = 0; i < 3; ++i) {
    const EchKey key = Make("outer.example", kNow + std::chrono::hours(i));
    const std::filesystem::path path = root_ / KeyFileName(key);
    ASSERT_TRUE(SaveKey(key, path).ok());
    lists.push_back(key.ConfigListBytes());
  }
  // All of one age: the name decides.
  const auto one_age = std::filesystem::file_time_type::clock::now() - std::chrono::hours(10);
  for (const auto& entry : std::filesystem::directory_iterator(root_)) {
    std::filesystem::last_write_time(entry.path(), one_age);
  }
  {
    std::ofstream(root_ / "notes.txt") << "not a key";
  }
  auto store = KeyStore::Load(root_);
  ASSERT_TRUE(store.ok()) << store.status();
  ASSERT_EQ(store->keys().size(), 3U);
  EXPECT_EQ(store->PublishedList(), lists[2]);
  EXPECT_EQ(store->keys()[2].ConfigListBytes(), lists[0]);

  // Age goes before the name.
  const EchKey early_name = Make("outer.example", kNow - std::chrono::hours(5));
  ASSERT_TRUE(SaveKey(early_name, root_ / KeyFileName(early_name)).ok());
  store = KeyStore::Load(root_);
  ASSERT_TRUE(store.ok());
  EXPECT_EQ(store->PublishedList(), early_name.ConfigListBytes());

  const auto keys = store->MakeSslKeys();
  ASSERT_TRUE(keys.ok()) << keys.status();
  uint8_t* retry = nullptr;
  size_t length = 0;
  ASSERT_EQ(SSL_ECH_KEYS_marshal_retry_configs(keys->get(), &retry, &length), 1);
  const bssl::UniquePtr<uint8_t> owner(retry);
  EXPECT_EQ(std::vector<uint8_t>(retry, retry + length), store->PublishedList());
}

TEST_F(KeyStoreTest, ErrorsNameTheFile) {
  EXPECT_EQ(KeyStore::Load(root_).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(KeyStore::Load(root_ / "absent").status().code(), absl::StatusCode::kNotFound);
  {
    std::ofstream(root_ / "bad.ech") << "nonsense";
  }
  const auto store = KeyStore::LoadOrCreate(root_, "outer.example", 64, kNow);
  EXPECT_EQ(store.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(MessageOf(store.status())), HasSubstr((root_ / "bad.ech").string()));
  std::filesystem::remove(root_ / "bad.ech");
  std::filesystem::create_directory(root_ / "dir.ech");
  EXPECT_THAT(std::string(MessageOf(KeyStore::Load(root_).status())), HasSubstr("not a regular file"));
  {
    std::ofstream(root_ / "plain") << "";
  }
  EXPECT_THAT(std::string(MessageOf(KeyStore::LoadOrCreate(root_ / "plain" / "ech", "a.b", 64, kNow).status())),
              HasSubstr("plain"));
}

TEST_F(KeyStoreTest, WritingReplacesAtOnceAndLeavesNothingBehind) {
  const std::filesystem::path path = root_ / "file";
  ASSERT_TRUE(WriteStateFile(path, "one", 0644).ok());
  ASSERT_TRUE(WriteStateFile(path, "two", 0600).ok());
  EXPECT_EQ(ModeOf(path), 0600U);
  const auto file = ReadStateFile(path);
  ASSERT_TRUE(file.ok());
  EXPECT_EQ(file->text, "two");
  EXPECT_FALSE(WriteStateFile(root_ / "absent" / "file", "x", 0600).ok());
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(root_), std::filesystem::directory_iterator()), 1);
}

TEST(PemTest, PassesOverExplanationsAndLineEnds) {
  const auto blocks = ParsePem("text: before\r\n-----BEGIN A B-----\r\nAQI\r\nD\r\n-----END A B-----\r\n\nafter\n");
  ASSERT_TRUE(blocks.ok()) << blocks.status();
  ASSERT_EQ(blocks->all().size(), 1U);
  EXPECT_EQ(blocks->all()[0].label, "A B");
  EXPECT_THAT(blocks->all()[0].bytes, ElementsAre(1, 2, 3));
  EXPECT_TRUE(ParsePem("")->all().empty());
  EXPECT_TRUE(ParsePem("-----BEGIN -----\n")->all().empty());
}

TEST(PemTest, RefusesBrokenBlocks) {
  for (const char* text : {"-----BEGIN A-----\n", "-----BEGIN A-----\nAQID\n-----END B-----\n",
                           "-----BEGIN A-----\nA?ID\n-----END A-----\n", "-----BEGIN A-----\nAQI\n-----END A-----\n",
                           "-----BEGIN A-----\nProc-Type: 4,ENCRYPTED\n\nAQID\n-----END A-----"}) {
    EXPECT_EQ(ParsePem(text).status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
}

TEST(PemTest, ConfigListAsText) {
  EXPECT_THAT(*ConfigListFromText(" AQ\nID \n"), ElementsAre(1, 2, 3));
  EXPECT_FALSE(ConfigListFromText("").ok());
  EXPECT_FALSE(ConfigListFromText("?").ok());
  EXPECT_THAT(*ConfigListFromText(EncodePem(kEchConfigLabel, std::vector<uint8_t>{9})), ElementsAre(9));
  EXPECT_FALSE(ConfigListFromText(EncodePem(kPrivateKeyLabel, std::vector<uint8_t>{9})).ok());
}

}  // namespace
}  // namespace tunnel::ech
