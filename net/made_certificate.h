// A certificate for servers that were given none: self-signed, P-256, made once and kept in the state directory.
//
// It is its own trust anchor: clients get it as -ca (curl --cacert, NSS with trust "P,,") or are given its pin.
#pragma once

#include <chrono>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"
#include "net/secret.h"

namespace tunnel::net {

inline constexpr std::chrono::hours kMadeCertificateLife{825 * 24};    // what Apple's clients accept at most
inline constexpr std::chrono::hours kMadeCertificateRenewal{30 * 24};  // made anew when less than this is left
inline constexpr std::chrono::hours kMadeCertificateBackdate{24};      // for clients whose clock is behind

struct CertificatePair {
  std::string certificate_pem;
  Secret key_pem;  // PKCS#8
};

// Makes a self-signed certificate for `names` (DNS names, wildcards, IP addresses in text; at least one), valid between
// the two times.
[[nodiscard]] absl::StatusOr<CertificatePair> MakeSelfSigned(std::span<const std::string> names,
                                                             std::chrono::system_clock::time_point not_before,
                                                             std::chrono::system_clock::time_point not_after);

struct KeptCertificate {
  std::filesystem::path certificate_file;  // cert.pem, mode 0644
  std::filesystem::path key_file;          // key.pem, mode 0600
  bool made = false;                       // anew, in this call
  std::string why_made;                    // for the log: "there was none", "it expires in 12 days"
};

// Returns the certificate kept in `directory` when it is whole, covers `names` and has a month left at `now`; makes and
// keeps another otherwise. Fails when the directory cannot be read or written.
[[nodiscard]] absl::StatusOr<KeptCertificate> LoadOrMakeCertificate(const std::filesystem::path& directory,
                                                                    std::span<const std::string> names,
                                                                    std::chrono::system_clock::time_point now);

// The names the first certificate of a PEM text is for; `source` names it in errors.
[[nodiscard]] absl::StatusOr<std::vector<std::string>> CertificateNames(std::string_view pem, std::string_view source);

}  // namespace tunnel::net
