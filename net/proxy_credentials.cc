#include "net/proxy_credentials.h"

#include "net/secret.h"
#include "proto/base64.h"
#include "proto/http1_grammar.h"

namespace tunnel::net {

bool MatchesCredentials(const ListenSpec& spec, std::string_view user, std::string_view password) {
  const bool user_matches = SecretEquals(Secret(spec.user), user);
  const bool password_matches = SecretEquals(Secret(spec.password), password);
  return user_matches && password_matches;
}

bool IsAuthorized(const ListenSpec& spec, const proto::RequestHead& head) {
  if (spec.user.empty()) return true;
  constexpr std::string_view kScheme = "Basic ";
  const std::string_view value = head.fields.Find("Proxy-Authorization").value_or(std::string_view());
  if (head.fields.Count("Proxy-Authorization") != 1 || value.size() < kScheme.size() ||
      !proto::EqualsIgnoreCase(value.substr(0, kScheme.size()), kScheme)) {
    return false;
  }
  const auto decoded = proto::Base64Decode(proto::TrimOws(value.substr(kScheme.size())));
  if (!decoded.has_value()) return false;
  const std::string_view text(reinterpret_cast<const char*>(decoded->data()), decoded->size());
  const size_t colon = text.find(':');
  return colon != std::string_view::npos && MatchesCredentials(spec, text.substr(0, colon), text.substr(colon + 1));
}

}  // namespace tunnel::net
