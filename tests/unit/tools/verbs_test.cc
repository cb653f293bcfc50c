#include "tools/verbs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "ech/key_store.h"
#include "ech/pem.h"
#include "proto/base64.h"
#include "tools/surroundings.h"

namespace tunnel::tools {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string pattern = (std::filesystem::temp_directory_path() / "verbs-XXXXXX").string();
    path_ = mkdtemp(pattern.data());
  }
  ~TemporaryDirectory() { std::filesystem::remove_all(path_); }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

absl::StatusOr<std::string> RunWords(const std::vector<std::string>& args) {
  const absl::StatusOr<VerbOutput> output = RunVerb(args);
  if (!output.ok()) return output.status();
  EXPECT_EQ(output->exit_status, 0);
  return output->text;
}

std::string ErrorOf(const std::vector<std::string>& args, int exit_status = 2) {
  const absl::StatusOr<std::string> output = RunWords(args);
  if (output.ok()) return "(no error)";
  EXPECT_EQ(ExitStatusOf(output.status()), exit_status);
  return std::string(MessageOf(output.status()));
}

// What stands after `label` in its line of `text`.
std::string Labelled(const std::string& text, const std::string& label) {
  const size_t start = text.find(label + ": ");
  if (start == std::string::npos) return "";
  const size_t value = start + label.size() + 2;
  return text.substr(value, text.find('\n', value) - value);
}

TEST(Verbs, AreWhatDoesNotBeginWithADash) {
  EXPECT_TRUE(HasVerb(std::vector<std::string>{"version"}));
  EXPECT_TRUE(HasVerb(std::vector<std::string>{"", "-h"}));
  EXPECT_FALSE(HasVerb(std::vector<std::string>{"-h"}));
  EXPECT_FALSE(HasVerb(std::vector<std::string>{}));
}

TEST(Verbs, UnknownOnesAreRefused) {
  EXPECT_EQ(ErrorOf({"keygen"}), "unknown verb \"keygen\": expected check, ech-keygen, version, or flags (see -h)");
  EXPECT_EQ(ErrorOf({"versoin"}),
            "unknown verb \"versoin\": expected check, ech-keygen, version, or flags (see -h) (did you mean version?)");
  EXPECT_EQ(ErrorOf({""}), "unknown verb \"\": expected check, ech-keygen, version, or flags (see -h)");
}

TEST(Version, NamesWhatItWasBuiltWith) {
  const absl::StatusOr<std::string> text = RunWords({"version"});
  ASSERT_TRUE(text.ok());
  EXPECT_THAT(*text, StartsWith("ech-tunnel "));
  for (const char* const name : {"compiler", "BoringSSL", "liburing", "nghttp2", "c-ares", "backends", "io_uring"}) {
    EXPECT_THAT(*text, HasSubstr(std::string("\n") + name));
  }
  EXPECT_THAT(*RunWords({"version", "-h"}), HasSubstr("ech-tunnel version\n"));
  EXPECT_EQ(ErrorOf({"version", "-x"}), "version: unknown flag -x; -h lists the flags");
}

TEST(Keygen, WritesAKeyThatAServerLoadsAndPrintsWhatToPublish) {
  const TemporaryDirectory directory;
  const std::string out = (directory.path() / "new" / "keys").string();
  const absl::StatusOr<std::string> text =
      RunWords({"ech-keygen", "-public-name", "Public.example", "--out=" + out, "-name", "t.example"});
  ASSERT_TRUE(text.ok()) << MessageOf(text.status());
  const absl::StatusOr<ech::KeyStore> store = ech::KeyStore::Load(out);
  ASSERT_TRUE(store.ok()) << MessageOf(store.status());
  EXPECT_EQ(store->newest().public_name(), "public.example");
  const std::string base64 = proto::Base64Encode(store->PublishedList());
  EXPECT_EQ(Labelled(*text, "ECHConfigList"), base64);
  EXPECT_EQ(Labelled(*text, "DNS record"), "t.example. 3600 IN HTTPS 1 . ech=\"" + base64 + "\"");
  EXPECT_EQ(Labelled(*text, "BIND nsupdate"), "update add t.example. 3600 IN HTTPS 1 . ech=\"" + base64 + "\"");
  const std::string request = Labelled(*text, "Cloudflare API");
  ASSERT_THAT(request, StartsWith("POST /zones/ZONE_ID/dns_records {"));
  const auto body = nlohmann::json::parse(request.substr(request.find('{')));
  EXPECT_EQ(body["type"], "HTTPS");
  EXPECT_EQ(body["name"], "t.example");
  EXPECT_EQ(body["data"]["priority"], 1);
  EXPECT_EQ(body["data"]["target"], ".");
  EXPECT_EQ(body["data"]["value"], "ech=\"" + base64 + "\"");
  struct stat info = {};
  ASSERT_EQ(stat(Labelled(*text, "Key file").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777U, 0600U);
}

TEST(Keygen, KeysOfOneDirectoryHaveDifferentIds) {
  const TemporaryDirectory directory;
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(RunWords({"ech-keygen", "-public-name", "p.example", "-out", directory.path().string()}).ok());
  }
  const absl::StatusOr<ech::KeyStore> store = ech::KeyStore::Load(directory.path());
  ASSERT_TRUE(store.ok());
  ASSERT_EQ(store->keys().size(), 3U);
  EXPECT_NE(store->keys()[0].configs()[0].config_id, store->keys()[1].configs()[0].config_id);
  EXPECT_NE(store->keys()[1].configs()[0].config_id, store->keys()[2].configs()[0].config_id);
}

TEST(Keygen, SaysWhatIsWrong) {
  EXPECT_EQ(ErrorOf({"ech-keygen", "-out", "x"}),
            "ech-keygen: -public-name \"\": expected a host name, which others will see");
  EXPECT_EQ(ErrorOf({"ech-keygen", "-public-name", "10.0.0.1", "-out", "x"}),
            "ech-keygen: -public-name \"10.0.0.1\": expected a host name, which others will see");
  EXPECT_EQ(ErrorOf({"ech-keygen", "-public-name", "p.example"}),
            "ech-keygen: -out \"\": expected a directory for the key file");
  EXPECT_EQ(ErrorOf({"ech-keygen", "-public-name", "p.example", "-out", "x", "-name", "a b"}),
            "ech-keygen: -name \"a b\": expected a domain name");
  EXPECT_EQ(ErrorOf({"ech-keygen", "-publc-name", "p.example"}),
            "ech-keygen: unknown flag -publc-name (did you mean -public-name?)");
  EXPECT_THAT(*RunWords({"ech-keygen", "-h"}), HasSubstr("-public-name NAME"));
}

TEST(Keygen, ADirectoryThatCannotBeMadeIsTheSystemsRefusal) {
  EXPECT_THAT(ErrorOf({"ech-keygen", "-public-name", "p.example", "-out", "/proc/none"}, 1),
              StartsWith("ech-keygen: "));
}

TEST(ExitStatus, TellsTheUserFromTheSystem) {
  EXPECT_EQ(ExitStatusOf(absl::OkStatus()), 0);
  EXPECT_EQ(ExitStatusOf(InvalidArgument("x")), 2);
  EXPECT_EQ(ExitStatusOf(NotFound("x")), 2);
  EXPECT_EQ(ExitStatusOf(Unavailable("x")), 1);
  EXPECT_EQ(ExitStatusOf(Internal("x")), 1);
}

TEST(SystemSurroundings, AreThoseOfThisProcess) {
  ASSERT_EQ(setenv("ECH_TUNNEL_TEST_VARIABLE", "a=b", 1), 0);
  const SystemSurroundings system;
  EXPECT_EQ(system.variables().at("ECH_TUNNEL_TEST_VARIABLE"), "a=b");
  EXPECT_TRUE(system.HasCongestionControl("reno") || system.HasCongestionControl("cubic"));
  EXPECT_FALSE(system.HasCongestionControl("no-such-one"));
  EXPECT_TRUE(system.CheckReadable("/proc/self/status").ok());
  EXPECT_EQ(MessageOf(system.CheckReadable("/proc/none")), "No such file or directory");
  EXPECT_EQ(MessageOf(system.CheckReadable("/proc")), "not a regular file");
  EXPECT_FALSE(system.ReadFile("/proc/none").ok());
}

}  // namespace
}  // namespace tunnel::tools
