using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace KvNode.Raft.Transport;

/// <summary>This node's certificate and the authorities that sign those of its peers.</summary>
public sealed class TlsMaterial : IDisposable
{
    private readonly X509Certificate2 _certificate;
    private readonly X509Certificate2Collection _authorities;
    private readonly SslStreamCertificateContext _context;

    /// <param name="certificate">With its private key. Disposed with this.</param>
    /// <param name="intermediates">Sent along, between the certificate and the authority.</param>
    /// <param name="authorities">Trusted; nothing else is.</param>
    public TlsMaterial(
        X509Certificate2 certificate, X509Certificate2Collection intermediates, X509Certificate2Collection authorities)
    {
        _certificate = certificate;
        _authorities = authorities;
        _context = SslStreamCertificateContext.Create(certificate, intermediates, offline: true);
    }

    /// <summary>Reads PEM files: the certificate (and what it needs on the way up), its key, the authorities.</summary>
    /// <exception cref="CryptographicException">A file is not what it should be, or key and
    /// certificate do not belong together.</exception>
    /// <exception cref="IOException">A file cannot be read.</exception>
    public static TlsMaterial Load(string certificateFile, string keyFile, string authorityFile)
    {
        var chain = new X509Certificate2Collection();
        chain.ImportFromPemFile(certificateFile);
        if (chain.Count == 0)
        {
            throw new CryptographicException($"'{certificateFile}' holds no certificate");
        }

        var authorities = new X509Certificate2Collection();
        authorities.ImportFromPemFile(authorityFile);
        if (authorities.Count == 0)
        {
            throw new CryptographicException($"'{authorityFile}' holds no certificate");
        }

        chain.RemoveAt(0);
        try
        {
            return new TlsMaterial(X509Certificate2.CreateFromPemFile(certificateFile, keyFile), chain, authorities);
        }
        catch (ArgumentException e)
        {
            throw new CryptographicException($"'{keyFile}' is not the key of '{certificateFile}'", e);
        }
    }

    /// <summary>
    /// For accepted connections. A caller need not show a certificate, for clients may have none; one that is shown must be
    /// signed by an authority. That a peer has shown one is checked in its handshake.
    /// </summary>
    public SslServerAuthenticationOptions ServerOptions() => new()
    {
        ServerCertificateContext = _context,
        ClientCertificateRequired = true,
        CertificateChainPolicy = Policy(),
        RemoteCertificateValidationCallback = static (_, certificate, _, errors) =>
            certificate is null || errors == SslPolicyErrors.None,
    };

    /// <summary>For connections to a peer: its certificate must be signed by an authority and name the host called.</summary>
    public SslClientAuthenticationOptions ClientOptions(string host) => new()
    {
        TargetHost = host,
        ClientCertificateContext = _context,
        CertificateChainPolicy = Policy(),
    };

    public void Dispose() => _certificate.Dispose();

    private X509ChainPolicy Policy()
    {
        var policy = new X509ChainPolicy
        {
            TrustMode = X509ChainTrustMode.CustomRootTrust,
            RevocationMode = X509RevocationMode.NoCheck,
            DisableCertificateDownloads = true,
        };
        policy.CustomTrustStore.AddRange(_authorities);
        return policy;
    }
}
