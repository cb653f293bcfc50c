#include "net/tls_context.h"

#include <openssl/bio.h>
#include <openssl/bytestring.h>
#include <openssl/err.h>
#include <openssl/pem.h>

#include <utility>

#include "ech/boringssl_error.h"
#include "ech/state_file.h"
#include "net/browser_hello.h"
#include "net/tls_engine.h"

namespace tunnel::net {
namespace {

// One for the connection that takes the place of this one, and one for when its dial is cut off.
constexpr size_t kTicketsPerConnection = 2;

// The method without BoringSSL's own X.509 handling: certificates are judged by PeerVerifier, and connections keep no
// parsed copies of them.
bssl::UniquePtr<SSL_CTX> NewContext(uint16_t lowest_version) {
  bssl::UniquePtr<SSL_CTX> ctx(SSL_CTX_new(TLS_with_buffers_method()));
  if (ctx == nullptr || SSL_CTX_set_min_proto_version(ctx.get(), lowest_version) != 1 ||
      SSL_CTX_set_max_proto_version(ctx.get(), TLS1_3_VERSION) != 1) {
    return nullptr;
  }
  SSL_CTX_set_session_cache_mode(ctx.get(), SSL_SESS_CACHE_OFF);
  SSL_CTX_set_options(ctx.get(), SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
  return ctx;
}

bool FailedAtPassword() {
  const uint32_t error = ERR_peek_last_error();
  return ERR_GET_LIB(error) == ERR_LIB_PEM &&
         (ERR_GET_REASON(error) == PEM_R_BAD_PASSWORD_READ || ERR_GET_REASON(error) == PEM_R_BAD_DECRYPT);
}

// Stands in for BoringSSL's default, which would ask on the terminal: no password, the reading fails.
int NoPassword(char* /*buffer*/, int /*size*/, int /*writing*/, void* /*context*/) { return -1; }

absl::StatusOr<bssl::UniquePtr<EVP_PKEY>> ParsePrivateKey(std::string_view pem, std::string_view source) {
  ERR_clear_error();
  const bssl::UniquePtr<BIO> bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  if (bio == nullptr) return Internal("no memory for a private key");
  bssl::UniquePtr<EVP_PKEY> key(PEM_read_bio_PrivateKey(bio.get(), nullptr, NoPassword, nullptr));
  if (key != nullptr) return key;
  const bool password = FailedAtPassword();
  const uint32_t error = ERR_peek_last_error();
  const bool none = ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
  const std::string reason = ech::TakeBoringSslError();
  if (password) return InvalidArgument("{}: the private key is encrypted; only plain ones are read", source);
  if (none) return InvalidArgument("{}: no PEM private key in it", source);
  return InvalidArgument("{}: the private key is malformed: {}", source, reason);
}

}  // namespace

absl::StatusOr<std::string> EncodeAlpn(const std::vector<std::string>& protocols) {
  std::string wire;
  for (const std::string& protocol : protocols) {
    if (protocol.empty() || protocol.size() > 255) return InvalidArgument("'{}' is not an ALPN name", protocol);
    wire += static_cast<char>(protocol.size());
    wire += protocol;
  }
  return wire;
}

absl::StatusOr<std::unique_ptr<TlsClientContext>> TlsClientContext::Create(const TlsClientOptions& options) {
  absl::StatusOr<PeerVerifier> verifier = !options.ca_file.empty() ? PeerVerifier::FromFile(options.ca_file)
                                          : !options.pins.empty()  ? PeerVerifier::FromPins(options.pins)
                                                                   : PeerVerifier::System();
  if (!verifier.ok()) return verifier.status();
  if (!options.ca_file.empty()) verifier->AddPins(options.pins);
  const absl::StatusOr<std::string> alpn = EncodeAlpn(options.alpn);
  if (!alpn.ok()) return alpn.status();
  // TLS 1.2 is offered as browsers do; the engine refuses a peer that takes it, where that is not allowed.
  bssl::UniquePtr<SSL_CTX> ctx = NewContext(TLS1_2_VERSION);
  if (ctx == nullptr) return Internal("TLS cannot be set up: {}", ech::TakeBoringSslError());
  TUNNEL_RETURN_IF_ERROR(LookLikeABrowser(ctx.get()));
  // 0 is success here, unlike everywhere else.
  if (!alpn->empty() && SSL_CTX_set_alpn_protos(ctx.get(), reinterpret_cast<const uint8_t*>(alpn->data()),
                                                static_cast<unsigned>(alpn->size())) != 0) {
    return Internal("ALPN was refused: {}", ech::TakeBoringSslError());
  }
  if (options.resume) {
    SSL_CTX_clear_options(ctx.get(), SSL_OP_NO_TICKET);
    SSL_CTX_set_session_cache_mode(ctx.get(), SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ctx.get(), TlsEngine::KeepTicket);
    // A certificate may have expired since, or be pinned against.
    SSL_CTX_set_reverify_on_resume(ctx.get(), 1);
  }
  return std::unique_ptr<TlsClientContext>(new TlsClientContext(std::move(ctx), *std::move(verifier), options));
}

void TlsServerContext::ResumeWith(std::shared_ptr<TicketKeys> keys) {
  ticket_keys_ = std::move(keys);
  ticket_keys_->ApplyTo(ctx_.get());
  SSL_CTX_set_num_tickets(ctx_.get(), kTicketsPerConnection);
}

int TlsServerContext::SelectAlpn(SSL* /*ssl*/, const uint8_t** out, uint8_t* out_length, const uint8_t* offered,
                                 unsigned offered_length, void* context) {
  const auto* self = static_cast<const TlsServerContext*>(context);
  for (const std::string& ours : self->alpn_) {
    CBS list;
    CBS name;
    CBS_init(&list, offered, offered_length);
    while (CBS_get_u8_length_prefixed(&list, &name)) {
      if (CBS_mem_equal(&name, reinterpret_cast<const uint8_t*>(ours.data()), ours.size()) == 1) {
        *out = CBS_data(&name);
        *out_length = static_cast<uint8_t>(CBS_len(&name));
        return SSL_TLSEXT_ERR_OK;
      }
    }
  }
  return SSL_TLSEXT_ERR_ALERT_FATAL;
}

absl::StatusOr<std::unique_ptr<TlsServerContext>> TlsServerContext::FromPem(std::string_view chain_pem,
                                                                            std::string_view chain_source,
                                                                            std::string_view key_pem,
                                                                            std::string_view key_source,
                                                                            std::vector<std::string> alpn) {
  const auto certificates = ParseCertificates(chain_pem, chain_source);
  if (!certificates.ok()) return certificates.status();
  const auto key = ParsePrivateKey(key_pem, key_source);
  if (!key.ok()) return key.status();
  const absl::StatusOr<std::string> checked = EncodeAlpn(alpn);
  if (!checked.ok()) return checked.status();
  if (X509_check_private_key(certificates->front().get(), key->get()) != 1) {
    ERR_clear_error();
    return InvalidArgument("{}: not the private key of the first certificate in {}", key_source, chain_source);
  }
  std::vector<bssl::UniquePtr<CRYPTO_BUFFER>> buffers;
  std::vector<CRYPTO_BUFFER*> chain;
  for (const auto& certificate : *certificates) {
    uint8_t* der = nullptr;
    const int length = i2d_X509(certificate.get(), &der);
    if (length <= 0) return Internal("{}: cannot be encoded again", chain_source);
    const bssl::UniquePtr<uint8_t> owner(der);
    buffers.emplace_back(CRYPTO_BUFFER_new(der, static_cast<size_t>(length), nullptr));
    chain.push_back(buffers.back().get());
  }
  std::unique_ptr<TlsServerContext> context(new TlsServerContext());
  context->ctx_ = NewContext(TLS1_3_VERSION);
  context->names_ = NamesOf(*certificates->front());
  context->alpn_ = std::move(alpn);
  const absl::StatusOr<Pin> pin = PinOf(*certificates->front());
  if (!pin.ok()) return Annotate(pin.status(), "{}", chain_source);
  context->pin_ = *pin;
  if (context->ctx_ == nullptr) return Internal("TLS cannot be set up: {}", ech::TakeBoringSslError());
  if (SSL_CTX_set_chain_and_key(context->ctx_.get(), chain.data(), chain.size(), key->get(), nullptr) != 1) {
    return InvalidArgument("{} and {} cannot be used: {}", chain_source, key_source, ech::TakeBoringSslError());
  }
  SSL_CTX_set_select_certificate_cb(context->ctx_.get(), TlsEngine::SeeClientHello);
  SSL_CTX_set_num_tickets(context->ctx_.get(), 0);
  if (!context->alpn_.empty()) SSL_CTX_set_alpn_select_cb(context->ctx_.get(), SelectAlpn, context.get());
  return context;
}

absl::StatusOr<std::unique_ptr<TlsServerContext>> TlsServerContext::FromFiles(const std::filesystem::path& chain_file,
                                                                              const std::filesystem::path& key_file,
                                                                              std::vector<std::string> alpn) {
  const absl::StatusOr<ech::StateFile> chain = ech::ReadStateFile(chain_file);
  if (!chain.ok()) return chain.status();
  absl::StatusOr<ech::StateFile> key = ech::ReadStateFile(key_file);
  if (!key.ok()) return key.status();
  auto context = FromPem(chain->text, chain_file.string(), key->text, key_file.string(), std::move(alpn));
  ech::WipeString(key->text);
  return context;
}

}  // namespace tunnel::net
