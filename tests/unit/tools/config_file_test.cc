#include "tools/config_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "command_line.h"
#include "tools/flag_table.h"

namespace tunnel::tools {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

// A client's file, complete.
const std::string kClientFile = "l = \"proxy://127.0.0.1:1080\"\nf = \"wss://t.example/p\"\n";

absl::StatusOr<CommandLine> Load(const std::string& text, const std::string& line, const char* name,
                                 FakeSurroundings& surroundings) {
  surroundings.files[name] = text;
  std::vector<std::string> args = Words(line);
  args.insert(args.end(), {"-config", name});
  return ParseCommandLine(args, surroundings);
}

absl::StatusOr<CommandLine> Load(const std::string& text, const std::string& line = "", const char* name = "c.toml") {
  FakeSurroundings surroundings;
  return Load(text, line, name, surroundings);
}

net::Config GoodFile(const std::string& text, const std::string& line = "", const char* name = "c.toml") {
  const absl::StatusOr<CommandLine> loaded = Load(text, line, name);
  EXPECT_TRUE(loaded.ok()) << text << ": " << MessageOf(loaded.status());
  return loaded.ok() ? loaded->config : net::Config();
}

std::string FileError(const std::string& text, const char* name = "c.toml") { return ErrorIn(Load(text, "", name)); }

TEST(ConfigFile, TomlSaysWhatFlagsSay) {
  const net::Config config = GoodFile(
      "# a client\n"
      "l = [\"proxy://127.0.0.1:1080\", \"tcp://127.0.0.1:1/h:2,127.0.0.1:3/h:4\"]\n"
      "f = 'wss://t.example/p'\n"
      "token = \"T\"\n"
      "n = 4\n"
      "ip = [\"192.0.2.1\", \"::1\"]\n"
      "dns = \"a.example,b.example\"\n"
      "ech = \"auto\"\n"
      "pin = [\"BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD\"]\n"
      "log-level = \"debug\"\n");
  EXPECT_EQ(config.listen.size(), 3U);
  EXPECT_EQ(config.token, "T");
  EXPECT_EQ(config.channels, 4U);
  EXPECT_EQ(config.server_addresses.size(), 2U);
  EXPECT_EQ(config.doh_urls.size(), 2U);
  EXPECT_EQ(config.ech_name, "t.example");
  EXPECT_EQ(config.pins.size(), 1U);
  EXPECT_EQ(config.log_level, "debug");
  EXPECT_TRUE(GoodFile(kClientFile + "fallback = true\n").fallback);
  EXPECT_FALSE(GoodFile(kClientFile + "fallback = false\n").fallback);
}

TEST(ConfigFile, EveryFlagIsAKey) {
  for (const Flag& flag : FlagTable()) {
    if (!InFile(flag)) continue;
    // A date is never what is expected, so the key is known when that is what is said.
    EXPECT_THAT(FileError(fmt::format("{} = 1979-05-27\n", flag.spec.name)),
                HasSubstr(fmt::format("c.toml:1: {} is a date or time: expected ", flag.spec.name)));
  }
}

TEST(ConfigFile, JsonOfTheForks) {
  const char* const text = R"({
    "listen": "proxy://127.0.0.1:1080", "forward": "wss://t.example/p", "ip": "192.0.2.1,192.0.2.2",
    "cert": "", "key": "", "token": "T", "cidr": null, "dns": "d.example/q", "ech": "e.example",
    "fallback": false, "connections": 5 })";
  const net::Config config = GoodFile(text, "", "c.json");
  EXPECT_EQ(config.listen.size(), 1U);
  EXPECT_EQ(config.server_host, "t.example");
  EXPECT_EQ(config.server_addresses.size(), 2U);
  EXPECT_EQ(config.token, "T");
  EXPECT_THAT(config.doh_urls, ElementsAre("https://d.example/q"));
  EXPECT_EQ(config.ech_name, "e.example");
  EXPECT_EQ(config.channels, 5U);
  EXPECT_EQ(GoodFile(R"({"listen": ["proxy://127.0.0.1:1", "proxy://127.0.0.1:2"], "f": "wss://t.example/",
                     "connections": 0, "log-level": "warn"})")
                .listen.size(),
            2U)
      << "told from TOML by its first character, and with the flags' names too";
}

TEST(ConfigFile, CommandLineBeatsEnvironmentBeatsFile) {
  FakeSurroundings surroundings;
  surroundings.variable["ECH_TUNNEL_N"] = "2";
  surroundings.variable["ECH_TUNNEL_TOKEN"] = "from-environment";
  const std::string text =
      kClientFile + "n = 1\ntoken = \"from-file\"\nech = \"from.file\"\nbackend = \"epoll\"\nthreads = 3\n";
  const absl::StatusOr<CommandLine> loaded =
      Load(text, "-token from-line -l proxy://127.0.0.1:9", "c.toml", surroundings);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->config.token, "from-line");
  EXPECT_EQ(loaded->config.channels, 2U);
  EXPECT_EQ(loaded->config.ech_name, "from.file");
  EXPECT_EQ(loaded->config.threads, 3U);
  ASSERT_EQ(loaded->config.listen.size(), 1U) << "a list is replaced, not added to";
  EXPECT_EQ(loaded->config.listen[0].address.port(), 9);
}

TEST(ConfigFile, TheEnvironmentMayNameIt) {
  FakeSurroundings surroundings;
  surroundings.files["e.toml"] = kClientFile;
  surroundings.variable["ECH_TUNNEL_CONFIG"] = "e.toml";
  EXPECT_TRUE(ParseCommandLine({}, surroundings).ok());
  surroundings.variable["ECH_TUNNEL_CONFIG"] = "none.toml";
  EXPECT_EQ(
      MessageOf(ParseCommandLine({}, surroundings).status()),
      "ECH_TUNNEL_CONFIG \"none.toml\": expected a TOML or JSON file that can be read: none.toml: No such file or "
      "directory");
}

struct BadFile {
  std::string text;
  std::string error;
  const char* name = "c.toml";
};
// What is not text has no place in the report, which is XML.
void PrintTo(const BadFile& bad, std::ostream* out) { *out << testing::PrintToString(bad.text); }

class BadConfigFile : public testing::TestWithParam<BadFile> {};
TEST_P(BadConfigFile, OneExactLine) {
  const BadFile& bad = GetParam();
  // What follows is the TOML parser's, whose words change with its version.
  if (bad.error.ends_with("TOML: ")) {
    EXPECT_THAT(FileError(bad.text, bad.name), testing::StartsWith(bad.error));
  } else {
    EXPECT_EQ(FileError(bad.text, bad.name), bad.error);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Toml, BadConfigFile,
    testing::ValuesIn(std::vector<BadFile>{
        {"\ntokne = \"x\"\n", "c.toml:2: unknown key tokne (did you mean token?)"},
        {"quux = 1\n", "c.toml:1: unknown key quux; keys are the names of the flags, and -h lists them"},
        {"listen = \"proxy://127.0.0.1:1\"\n",
         "c.toml:1: unknown key listen; keys are the names of the flags, and -h lists them"},
        {"config = \"other.toml\"\n",
         "c.toml:1: unknown key config; keys are the names of the flags, and -h lists them"},
        {"check-config = true\n",
         "c.toml:1: unknown key check-config; keys are the names of the flags, and -h lists them"},
        {"h = true\n", "c.toml:1: unknown key h; keys are the names of the flags, and -h lists them"},
        {"[server]\nl = \"ws://:1/\"\n",
         "c.toml:1: unknown key server; keys are the names of the flags, and -h lists them"},
        {"l.x = 1\n", "c.toml:1: l is a table: expected a string in quotes, or an array of them"},
        {"[[l]]\nx = 1\n", "c.toml:1: l is a table: expected a string in quotes, or an array of them"},
        {"n = 0\n", "c.toml:1: n \"0\": expected a number from 1 to 256"},
        {"n = -3\n", "c.toml:1: n \"-3\": expected a number from 1 to 256"},
        {"n = 2.5\n", "c.toml:1: n is a fraction: expected a number"},
        {"n = [1, 2]\n", "c.toml:1: n is an array: expected a number"},
        {"n = true\n", "c.toml:1: n true: expected a number"},
        {"token = 5\n", "c.toml:1: token (not shown): expected a string in quotes"},
        {"token = [\"a\"]\n", "c.toml:1: token is an array: expected a string in quotes"},
        {"token = \"a\\u0000b\"\n", "c.toml:1: token: expected a string in quotes without a zero byte in it"},
        {"token = \"two words\"\n",
         "c.toml:1: token (not shown): expected 1 to 1024 visible ASCII characters without spaces"},
        {"token = \"@/run/none\"\n",
         "c.toml:1: token \"@/run/none\": expected a file that can be read: /run/none: No such file or directory"},
        {"fallback = \"yes\"\n", "c.toml:1: fallback \"yes\": expected true or false, without quotes"},
        {"fallback = 1\n", "c.toml:1: fallback 1: expected true or false, without quotes"},
        {"l = [\n  \"proxy://127.0.0.1:1\",\n  \"ftp://127.0.0.1\"\n]\n",
         "c.toml:3: l \"ftp://127.0.0.1\": expected wss://ip:port/path, ws://ip:port/path, tcp://LISTEN/TARGET, "
         "udp://LISTEN/TARGET, rtcp://LISTEN/TARGET or proxy://ip:port"},
        {"l = [[\"proxy://127.0.0.1:1\"]]\n",
         "c.toml:1: l is an array: expected a string in quotes, or an array of them"},
        {"ip = [\"192.0.2.1\", \"x\"]\n", "c.toml:1: ip \"x\": expected an IP address without a port"},
        {"n = 1\nn = 2\n", "c.toml:2: expected TOML: a key that is there already"},
        {"n 1\n", "c.toml:1: expected TOML: "},
        {"n =\n", "c.toml:1: expected TOML: "},
        {"n = 1\n [{\"l\": 1}]", "c.toml:2: expected TOML: "},
        {"token = Sesame\n", "c.toml:1: expected TOML: "},
        {"token = \"Sesame\n", "c.toml:1: expected TOML: "},
        {"l = [\"a\"\n\nn = 1\n", "c.toml:3: expected TOML: "},
        {"name = \"a\xff\"\n", "c.toml:1: expected TOML: "},
        {"cert = \"none.pem\"\n",
         "c.toml:1: cert \"none.pem\": expected a PEM file that can be read: No such file or directory"},
        {kClientFile + "cidr = \"10.0.0.0/8\"\n",
         "c.toml:3: cidr is for a server, and -l \"proxy://127.0.0.1:1080\" makes this a client"},
        {kClientFile + "ech-config = \"AAAA\"\n",
         "c.toml:3: ech-config \"AAAA\": expected an ECHConfigList that can be used: malformed ECHConfigList: 1 bytes "
         "after its end"},
    }));

INSTANTIATE_TEST_SUITE_P(
    Json, BadConfigFile,
    testing::ValuesIn(std::vector<BadFile>{
        {"", "c.json:1: expected JSON, and this is not from here on", "c.json"},
        {"l = \"x\"\n", "c.json:1: expected JSON, and this is not from here on", "c.json"},
        {"[]", "c.json:1: expected an object, as { \"listen\": ... }", "c.json"},
        {"3", "c.json:1: expected an object, as { \"listen\": ... }", "c.json"},
        {"{\n\"lissen\": \"x\"\n}", "c.json:2: unknown key lissen (did you mean listen?)", "c.json"},
        {"{\n\"n\": 1,\n\"n\": 2}", "c.json:3: expected a key that is there only once", "c.json"},
        {"{\n\"n\": 1,\n\"connections\": 2}", "c.json:3: connections says again what -n stands for", "c.json"},
        {"{\"n\": 1.5}", "c.json:1: n is a fraction: expected a number", "c.json"},
        {"{\"n\": {\"a\": [1, {}]}}", "c.json:1: n is an object: expected a number", "c.json"},
        {"{\"l\": [\n\"proxy://127.0.0.1:1\",\n[\"x\", {}]]}",
         "c.json:3: l is an array: expected a string in quotes, or an array of them", "c.json"},
        {"{\"l\": [\"proxy://127.0.0.1:1\", null]}",
         "c.json:1: l is null: expected a string in quotes, or an array of them", "c.json"},
        {"{\"fallback\": \"true\"}", "c.json:1: fallback \"true\": expected true or false, without quotes", "c.json"},
        {"{\"connections\": 1e3}", "c.json:1: connections is a fraction: expected a number", "c.json"},
        {"{\"token\": Sesame}", "c.json:1: expected JSON, and this is not from here on", "c.json"},
        {"{\"token\": \"Sesame\" \n\"n\": 1}", "c.json:2: expected JSON, and this is not from here on", "c.json"},
        {"{\"token\": \"Ses\xff\"}", "c.json:1: expected JSON, and this is not from here on", "c.json"},
        {"{\"token\": \"x\"} x", "c.json:1: expected JSON, and this is not from here on", "c.json"},
    }));

TEST(ConfigFile, IsBounded) {
  EXPECT_EQ(FileError(std::string(kConfigFileLimitBytes + 1, '#')),
            "c.toml: 262145 bytes: expected a configuration file of at most 262144");
  EXPECT_EQ(GoodFile(kClientFile + "#" + std::string(kConfigFileLimitBytes - kClientFile.size() - 1, '#')).channels,
            3U);
  // As deep as the bound lets it be: neither parser may run out of stack.
  EXPECT_NE(FileError("l = " + std::string(100'000, '[')), "(no error)");
  EXPECT_NE(FileError("{\"l\": " + std::string(100'000, '['), "c.json"), "(no error)");
  EXPECT_NE(FileError("{\"l\": " + std::string(50'000, '[') + std::string(50'000, ']') + "}", "c.json"), "(no error)");
}

TEST(ConfigFile, SecretsAreInNoMessage) {
  // S stands for the secret, wherever someone may have put it.
  for (const char* const line : {
           "token = S",
           "token = \"S",
           "token = 'S",
           "token = \"S\" x",
           "token = [\"S\"]",
           "token = [\"S\", ",
           "token = { a = \"S\" }",
           "token = \"S S\"",
           "token = \"S\"\ntoken = \"S\"",
           "token = \"S\"\nn = 0",
           "token = S\n",
           "token : \"S\"",
           "token \"S\"",
           "token = \"\\S\"",
           "token = \"\"\"S",
           "token = 1S",
           "token = -S",
           "token = 0xS",
           "token = tS",
           "token = \"S\"\n[token]",
           "l = \"proxy://u:S@127.0.0.1\"",
           "l = \"proxy://u:S@127.0.0.1:1/x\"",
           "fallback = \"proxy://u:S@127.0.0.1:1\"",
           "{\"token\": \"S}",
           "{\"token\": S}",
           "{\"token\": \"S\" \"n\": 1}",
           "{\"token\": {\"S\": 1}}",
           "{\"token\": [\"S\"]}",
           "{\"token\": \"\\S\"}",
           "{\"token\": \"S\xff\"}",
           "{\"token\": 'S'}",
       }) {
    std::string filled;
    for (const char* c = line; *c != '\0'; ++c) {
      if (*c == 'S') {
        filled += kSecret;
      } else {
        filled += *c;
      }
    }
    EXPECT_THAT(FileError(filled), Not(HasSubstr("S3cr3t"))) << line;
    EXPECT_NE(FileError(filled), "(no error)") << line;
  }
}

TEST(ConfigFile, TokenFromAFileOfItsOwn) {
  FakeSurroundings surroundings;
  surroundings.files["/run/token"] = "T0ken\r\n";
  absl::StatusOr<CommandLine> loaded = Load(kClientFile + "token = \"@/run/token\"\n", "", "c.toml", surroundings);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->config.token, "T0ken");
  EXPECT_THAT(loaded->warnings, IsEmpty());
  EXPECT_THAT(EffectiveToml(*loaded, {}), HasSubstr("\ntoken = \"@/run/token\"  # c.toml:3\n"));
  surroundings.world_readable = {"/run/token", "c.toml"};
  loaded = Load(kClientFile + "token = \"@/run/token\"\n", "", "c.toml", surroundings);
  EXPECT_THAT(loaded->warnings, ElementsAre("/run/token holds the token and everyone on this host may read it: chmod "
                                            "600 it"));
  EXPECT_EQ(GoodFile(kClientFile, "-token @x").token, "@x") << "only a whole path is one";
  surroundings.files["/run/token"] = "two\nlines\n";
  EXPECT_EQ(MessageOf(Load(kClientFile + "token = \"@/run/token\"\n", "", "c.toml", surroundings).status()),
            "c.toml:3: token (not shown): expected 1 to 1024 visible ASCII characters without spaces");
}

TEST(ConfigFile, WarnsOfSecretsThatEveryoneMayRead) {
  FakeSurroundings surroundings;
  surroundings.world_readable = {"c.toml"};
  const auto warnings = [&](const std::string& text) {
    const absl::StatusOr<CommandLine> loaded = Load(text, "", "c.toml", surroundings);
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    return loaded->warnings;
  };
  const std::string warning =
      "c.toml holds a secret and everyone on this host may read it: chmod 600 it, or put the token into a file of its "
      "own (token = \"@/path\")";
  EXPECT_THAT(warnings(kClientFile), IsEmpty());
  EXPECT_THAT(warnings(kClientFile + "token = \"x\"\n"), ElementsAre(warning));
  EXPECT_THAT(warnings("l = \"proxy://u:p@127.0.0.1:1\"\nf = \"wss://t.example/\"\n"), ElementsAre(warning));
  surroundings.world_readable.clear();
  EXPECT_THAT(warnings(kClientFile + "token = \"x\"\n"), IsEmpty());
}

TEST(EffectiveToml, SaysWhatIsInEffectAndFromWhere) {
  FakeSurroundings surroundings;
  surroundings.variable["ECH_TUNNEL_N"] = "2";
  const absl::StatusOr<CommandLine> loaded =
      Load("l = [\"proxy://us3r:p4ss@127.0.0.1:1080\", \"tcp://127.0.0.1:1/h:2\"]\nf = \"wss://t.example/p\"\n",
           std::string("-check-config -fallback -token ") + kSecret, "c.toml", surroundings);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->action, Action::kCheckConfig);
  const std::string text = EffectiveToml(*loaded, std::vector<std::string>{"a note"});
  EXPECT_THAT(text, HasSubstr("# effective configuration: client listen="));
  EXPECT_THAT(text, HasSubstr("\n# a note\n"));
  EXPECT_THAT(text, HasSubstr("\n# warning: -fallback: connections are made WITHOUT ECH"));
  EXPECT_THAT(text, HasSubstr("\nl = [\n  \"proxy://***:***@127.0.0.1:1080\",  # c.toml:1\n"
                              "  \"tcp://127.0.0.1:1/h:2\",  # c.toml:1\n]\n"));
  EXPECT_THAT(text, HasSubstr("\ntoken = \"***\"  # command line\n"));
  EXPECT_THAT(text, HasSubstr("\nn = 2  # environment\n"));
  EXPECT_THAT(text, HasSubstr("\nfallback = true  # command line\n"));
  EXPECT_THAT(text, HasSubstr("\n# backend: auto (default)\n"));
  EXPECT_THAT(text, Not(HasSubstr("cidr"))) << "a server's";
  for (const char* const secret : {kSecret, "us3r", "p4ss"}) EXPECT_THAT(text, Not(HasSubstr(secret)));
}

// But for comments, which say where each value stands.
std::string WithoutComments(const std::string& text) {
  std::istringstream lines(text);
  std::string rest;
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with('#')) rest += line.substr(0, line.rfind("  # ")) + "\n";
  }
  return rest;
}

TEST(EffectiveToml, KeepsAnAtSignBehindTheAuthority) {
  const absl::StatusOr<CommandLine> loaded =
      Load("l = [\"ws://:1/@\", \"ws://unix:/run/t@1\"]\nf = \"socks5://u:p4ss@unix:/run/p@1\"\n");
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  const std::string text = EffectiveToml(*loaded, {});
  EXPECT_THAT(text, HasSubstr("\"ws://:1/@\""));
  EXPECT_THAT(text, HasSubstr("\"ws://unix:/run/t@1\""));
  EXPECT_THAT(text, HasSubstr("\"socks5://***:***@unix:/run/p@1\""));
  EXPECT_THAT(text, Not(HasSubstr("p4ss")));
  EXPECT_TRUE(Load(text).ok()) << text;
}

TEST(EffectiveToml, IsReadBackAsTheSame) {
  for (const char* const line :
       {"-l proxy://u:p@127.0.0.1:1 -l tcp://[::1]:2/h:3 -l rtcp://:4/h:5,[::]:0/unix:/run/a -f wss://t.example/p%20q "
        "-token x -n 7 -ip 192.0.2.1,::1 "
        "-fallback=false -ca ca.pem -dns a.example -ech auto",
        "-l wss://[::]:443/ -cert cert.pem -key key.pem -allow-target *.example.org:443,[fd00::]/8 -deny-target * "
        "-allow-reverse 127.0.0.0/8:80-81 -allow-reverse [::]:*,0.0.0.0/0:443 "
        "-deny-target 10.0.0.0/8 -require-ech -serve-dns -state /s -token y"}) {
    FakeSurroundings surroundings;
    std::istringstream words(line);
    const std::vector<std::string> args = {std::istream_iterator<std::string>(words),
                                           std::istream_iterator<std::string>()};
    const absl::StatusOr<CommandLine> first = ParseCommandLine(args, surroundings);
    ASSERT_TRUE(first.ok()) << first.status();
    const std::string text = EffectiveToml(*first, {});
    const absl::StatusOr<CommandLine> second = Load(text);
    ASSERT_TRUE(second.ok()) << second.status() << "\n" << text;
    EXPECT_EQ(WithoutComments(EffectiveToml(*second, {})), WithoutComments(text));
    EXPECT_THAT(second->warnings, testing::Contains(HasSubstr("token is ***, which -check-config prints in a secret's "
                                                              "place: put the secret there")));
    net::Config same = second->config;
    same.token = first->config.token;
    EXPECT_EQ(DescribeConfig(same), DescribeConfig(first->config));
  }
}

}  // namespace
}  // namespace tunnel::tools
