#include "tools/verbs.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

#include "core/process.h"
#include "ech/key_store.h"
#include "ech/pem.h"
#include "proto/base64.h"
#include "proto/https_record.h"
#include "tools/check_command.h"
#include "tools/flag_parser.h"
#include "tools/flag_values.h"

namespace tunnel::tools {
namespace {

constexpr FlagSpec kPublicName = {.name = "public-name", .argument = "NAME"};
constexpr FlagSpec kOut = {.name = "out", .argument = "DIR"};
constexpr FlagSpec kName = {.name = "name", .argument = "NAME"};
constexpr FlagSpec kHelp = {.name = "h", .repeatable = true};
constexpr FlagSpec kLongHelp = {.name = "help", .repeatable = true};

// Of the records that ech-keygen prints: an hour, so that a key that is replaced is forgotten soon.
constexpr int kRecordTtlSeconds = 3600;

constexpr std::string_view kKeygenHelp =
    "ech-tunnel ech-keygen -public-name NAME -out DIR [-name NAME]\n"
    "\n"
    "Makes an ECH key and prints the ECHConfigList in base64 (for -ech-config), the DNS record that publishes it, as "
    "a\n"
    "line of a zone, as a command of BIND's nsupdate (with -name) and as a request to Cloudflare's API, and the file "
    "that\n"
    "holds the key. A server that is given DIR as -ech-keys notices it at once, publishes its newest key (after\n"
    "-ech-publish-delay) and accepts all of them.\n"
    "\n"
    "  -public-name NAME   the outer name, which everyone sees instead of the server's own; the server's certificate\n"
    "                      should be valid for it too, so that clients with an old key can be told the new one\n"
    "  -out DIR            where the key file goes; made when it is not there\n"
    "  -name NAME          the server's own name, as the owner of the DNS record; @ (the zone itself) without it\n";

constexpr std::string_view kVersionHelp =
    "ech-tunnel version\n"
    "\n"
    "Prints the version of the program, of what it was built with, and what the kernel grants it.\n";

bool WantsHelp(const std::vector<GivenFlag>& given) {
  return std::ranges::any_of(given, [](const GivenFlag& flag) {
    return (flag.spec == &kHelp || flag.spec == &kLongHelp) && flag.value == "true";
  });
}

// The value given for `spec`; empty when there is none.
std::string ValueOf(const std::vector<GivenFlag>& given, const FlagSpec& spec) {
  const auto found = std::ranges::find_if(given, [&](const GivenFlag& flag) { return flag.spec == &spec; });
  return found == given.end() ? "" : found->value;
}

std::vector<uint8_t> TakenIds(const ech::KeyStore& store) {
  std::vector<uint8_t> ids;
  for (const ech::EchKey& key : store.keys()) {
    for (const ech::EchConfig& config : key.configs()) ids.push_back(config.config_id);
  }
  return ids;
}

absl::StatusOr<VerbOutput> Keygen(std::span<const std::string> args) {
  const std::array<const FlagSpec*, 5> specs = {&kPublicName, &kOut, &kName, &kHelp, &kLongHelp};
  const absl::StatusOr<std::vector<GivenFlag>> given = SplitArguments(args, specs);
  if (!given.ok()) return Annotate(given.status(), "ech-keygen");
  if (WantsHelp(*given)) return VerbOutput{.text = std::string(kKeygenHelp)};
  const std::string public_name = LowerCase(ValueOf(*given, kPublicName));
  const std::string directory = ValueOf(*given, kOut);
  const std::string name = LowerCase(ValueOf(*given, kName));
  if (!ech::IsValidPublicName(public_name)) {
    return InvalidArgument("ech-keygen: -public-name {}: expected a host name, which others will see",
                           Quoted(public_name));
  }
  if (directory.empty()) return InvalidArgument("ech-keygen: -out \"\": expected a directory for the key file");
  if (!name.empty() && !IsDomainName(name)) {
    return InvalidArgument("ech-keygen: -name {}: expected a domain name", Quoted(name));
  }

  // A key next to keys must be one that a server can load together with them.
  std::vector<uint8_t> taken;
  const absl::StatusOr<ech::KeyStore> store = ech::KeyStore::Load(directory);
  if (store.ok()) {
    if (store->keys().size() >= ech::kKeyLimit) {
      return InvalidArgument(
          "ech-keygen: -out {}: expected room for a key, and there are {}, which is the most a server "
          "takes; remove old ones",
          Quoted(directory), store->keys().size());
    }
    taken = TakenIds(*store);
  } else if (store.status().code() != absl::StatusCode::kNotFound) {
    return Annotate(store.status(), "ech-keygen: -out");
  }

  const absl::StatusOr<ech::EchKey> key =
      ech::GenerateKey(public_name, ech::MaximumNameLengthFor(std::span(&name, 1)), taken,
                       std::chrono::system_clock::from_time_t(core::WallSeconds()));
  if (!key.ok()) return Annotate(key.status(), "ech-keygen");
  const std::filesystem::path path = std::filesystem::path(directory) / ech::KeyFileName(*key);
  if (const absl::Status saved = ech::SaveKey(*key, path); !saved.ok()) {
    // A directory that cannot be written is the system's refusal.
    return Unavailable("ech-keygen: {}", OneLine(MessageOf(saved)));
  }
  const std::vector<uint8_t> list = key->ConfigListBytes();
  const std::string base64 = proto::Base64Encode(list);
  const std::string record = proto::FormatHttpsRecord({.priority = 1, .target = ".", .ech = list}, base64);
  std::string text = fmt::format("ECHConfigList: {}\nDNS record: {} {} IN HTTPS {}\n", base64,
                                 name.empty() ? "@" : fmt::format("{}.", name), kRecordTtlSeconds, record);
  if (!name.empty()) {
    text += fmt::format("BIND nsupdate: update add {}. {} IN HTTPS {}\n", name, kRecordTtlSeconds, record);
  }
  // https://developers.cloudflare.com/api/resources/dns/subresources/records/methods/create/
  nlohmann::ordered_json body;
  body["type"] = "HTTPS";
  body["name"] = name.empty() ? "@" : name;
  body["ttl"] = kRecordTtlSeconds;
  body["data"] = {{"priority", 1}, {"target", "."}, {"value", fmt::format("ech=\"{}\"", base64)}};
  text += fmt::format("Cloudflare API: POST /zones/ZONE_ID/dns_records {}\n", body.dump());
  return VerbOutput{.text = text + fmt::format("Key file: {}\n", path.string())};
}

absl::StatusOr<VerbOutput> Version(std::span<const std::string> args) {
  const std::array<const FlagSpec*, 2> specs = {&kHelp, &kLongHelp};
  const absl::StatusOr<std::vector<GivenFlag>> given = SplitArguments(args, specs);
  if (!given.ok()) return Annotate(given.status(), "version");
  return VerbOutput{.text = WantsHelp(*given) ? std::string(kVersionHelp) : VersionText()};
}

absl::StatusOr<VerbOutput> Check(std::span<const std::string> args) {
  const SystemSurroundings surroundings;
  absl::StatusOr<CheckOutput> output = RunCheckCommand(args, surroundings);
  if (!output.ok()) return Annotate(output.status(), "check");
  return VerbOutput{.text = std::move(output->text), .exit_status = output->exit_status};
}

struct Verb {
  std::string_view name;
  absl::StatusOr<VerbOutput> (*run)(std::span<const std::string> args);
};

constexpr std::array<Verb, 3> kVerbs = {{{"check", Check}, {"ech-keygen", Keygen}, {"version", Version}}};

}  // namespace

bool HasVerb(std::span<const std::string> args) { return !args.empty() && !args[0].starts_with('-'); }

absl::StatusOr<VerbOutput> RunVerb(std::span<const std::string> args) {
  const std::string_view name = args.empty() ? std::string_view() : args[0];
  std::vector<std::string_view> names;
  for (const Verb& verb : kVerbs) {
    if (verb.name != name) {
      names.push_back(verb.name);
      continue;
    }
    absl::StatusOr<VerbOutput> output = verb.run(args.subspan(1));
    if (!output.ok()) return MakeStatus(output.status().code(), "{}", OneLine(MessageOf(output.status())));
    return output;
  }
  return InvalidArgument("unknown verb {}: expected {}, or flags (see -h){}", Quoted(name), fmt::join(names, ", "),
                         DidYouMean(name, names, ""));
}

int ExitStatusOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return 0;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
      return 2;
    default:
      return 1;
  }
}

}  // namespace tunnel::tools
