#include "net/made_certificate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>

#include "ech/state_file.h"

namespace tunnel::net {
namespace {

using std::chrono::hours;
using std::chrono::system_clock;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class MadeCertificateTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "made_certificate_XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
    directory_ = root_ / "state";
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  KeptCertificate Get(const std::vector<std::string>& names, system_clock::time_point now = system_clock::now()) {
    auto kept = LoadOrMakeCertificate(directory_, names, now);
    EXPECT_TRUE(kept.ok()) << kept.status();
    return *std::move(kept);
  }

  static mode_t ModeOf(const std::filesystem::path& path) {
    struct stat info = {};
    EXPECT_EQ(::stat(path.c_str(), &info), 0) << path;
    return info.st_mode & 07777;
  }

  std::filesystem::path root_;
  std::filesystem::path directory_;
};

TEST_F(MadeCertificateTest, IsMadeOnce) {
  const KeptCertificate first = Get({"a.test", "*.b.test", "127.0.0.1", "::1"});
  EXPECT_TRUE(first.made);
  EXPECT_EQ(first.why_made, "there was none");
  EXPECT_EQ(ModeOf(directory_), 0700U);
  EXPECT_EQ(ModeOf(first.certificate_file), 0644U);
  EXPECT_EQ(ModeOf(first.key_file), 0600U);
  const auto file = ech::ReadStateFile(first.certificate_file);
  ASSERT_TRUE(file.ok());
  EXPECT_THAT(*CertificateNames(file->text, "cert"), ElementsAre("a.test", "*.b.test", "127.0.0.1", "::1"));
  // Some of the names, in other spellings, are covered as well.
  EXPECT_FALSE(Get({"A.test", "0:0:0:0:0:0:0:1"}).made);
  EXPECT_EQ(ech::ReadStateFile(first.certificate_file)->text, file->text);
}

TEST_F(MadeCertificateTest, IsMadeAnewWhenItNoLongerDoes) {
  const system_clock::time_point now = system_clock::now();
  ASSERT_TRUE(Get({"a.test"}, now).made);
  EXPECT_THAT(Get({"a.test", "b.test"}, now).why_made, HasSubstr("b.test"));
  EXPECT_FALSE(Get({"a.test", "b.test"}, now + hours(24 * 700)).made);
  EXPECT_THAT(Get({"a.test"}, now + hours(24 * 800)).why_made, HasSubstr("30 days"));
  EXPECT_THAT(Get({"a.test"}, now).why_made, HasSubstr("not valid yet"));
  std::filesystem::remove(directory_ / "key.pem");
  EXPECT_THAT(Get({"a.test"}, now).why_made, HasSubstr("key is gone"));
  ASSERT_TRUE(ech::WriteStateFile(directory_ / "cert.pem", "rubbish", 0644).ok());
  EXPECT_THAT(Get({"a.test"}, now).why_made, HasSubstr("no PEM certificate"));
  // As a crash between the two files leaves it.
  const auto other = MakeSelfSigned(std::vector<std::string>{"a.test"}, now, now + hours(24 * 100));
  ASSERT_TRUE(other.ok());
  ASSERT_TRUE(ech::WriteStateFile(directory_ / "key.pem", other->key_pem.Reveal(), 0600).ok());
  EXPECT_THAT(Get({"a.test"}, now).why_made, HasSubstr("not the private key"));
  EXPECT_FALSE(Get({"a.test"}, now).made);
}

TEST_F(MadeCertificateTest, RefusesBadNamesAndPlaces) {
  EXPECT_FALSE(MakeSelfSigned({}, {}, system_clock::now()).ok());
  EXPECT_FALSE(MakeSelfSigned(std::vector<std::string>{"a b"}, {}, system_clock::now()).ok());
  ASSERT_TRUE(ech::WriteStateFile(root_ / "file", "", 0600).ok());
  EXPECT_FALSE(LoadOrMakeCertificate(root_ / "file", std::vector<std::string>{"a.test"}, system_clock::now()).ok());
  const std::string long_name = std::string(60, 'a') + "." + std::string(60, 'b') + ".test";
  EXPECT_TRUE(MakeSelfSigned(std::vector<std::string>{long_name}, {}, system_clock::now()).ok());
}

}  // namespace
}  // namespace tunnel::net
