#include "net/check_files.h"

#include <algorithm>

#include "ech/key_store.h"
#include "net/client_service.h"
#include "net/tls_context.h"

namespace tunnel::net {
namespace {

absl::Status CheckCertificate(const Config& config, std::vector<std::string>& notes) {
  if (config.certificate_file.empty()) {
    notes.push_back(fmt::format("certificate: a self-signed one, kept in {} and made when it is not there",
                                config.state_directory));
    return absl::OkStatus();
  }
  const auto context = TlsServerContext::FromFiles(config.certificate_file, config.key_file, {"http/1.1"});
  if (!context.ok()) return Annotate(context.status(), "-cert, -key");
  notes.push_back(
      fmt::format("certificate: {}, for {}", FormatPin((*context)->pin()), fmt::join((*context)->names(), ", ")));
  return absl::OkStatus();
}

absl::Status CheckEchKeys(const Config& config, std::vector<std::string>& notes) {
  auto keys = ech::KeyStore::Load(config.ech_key_directory);
  if (keys.status().code() == absl::StatusCode::kNotFound) {
    notes.push_back(fmt::format("ECH keys: none in {}, one is made on the first start", config.ech_key_directory));
    return absl::OkStatus();
  }
  if (!keys.ok()) return Annotate(keys.status(), "-ech-keys {}", config.ech_key_directory);
  notes.push_back(fmt::format("ECH keys: {}, outer name {}", keys->keys().size(), keys->newest().public_name()));
  for (const std::string& warning : keys->warnings()) notes.push_back(fmt::format("warning: {}", warning));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<std::string>> CheckFiles(const Config& config) {
  std::vector<std::string> notes;
  if (!config.is_server()) {
    const auto shared = ClientShared::Prepare(config, 1);
    if (!shared.ok()) return shared.status();
    return notes;
  }
  const bool tls =
      std::ranges::any_of(config.listen, [](const ListenSpec& spec) { return spec.kind == ListenKind::kServerTls; });
  if (!tls) return notes;
  TUNNEL_RETURN_IF_ERROR(CheckCertificate(config, notes));
  TUNNEL_RETURN_IF_ERROR(CheckEchKeys(config, notes));
  return notes;
}

}  // namespace tunnel::net
