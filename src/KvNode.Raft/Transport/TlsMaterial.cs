using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace KvNode.Raft.Transport;

/// <summary>This node's certificate and the authorities that sign those of its peers.</summary>
public sealed class TlsMaterial : IDisposable
{
    /// <summary>Of a certificate that nobody answers for, in a line of the log.</summary>
    private const int SubjectCharsMax = 200;

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
    /// <param name="refused">Told what is wrong with a certificate that was shown.</param>
    public SslServerAuthenticationOptions ServerOptions(Action<string> refused) => new()
    {
        ServerCertificateContext = _context,
        ClientCertificateRequired = true,
        CertificateChainPolicy = Policy(),
        RemoteCertificateValidationCallback = (_, certificate, chain, errors) =>
        {
            var isGood = certificate is null || errors == SslPolicyErrors.None;
            if (!isGood)
            {
                var subject = certificate!.Subject;
                subject = subject.Length > SubjectCharsMax ? subject[..SubjectCharsMax] : subject;
                refused($"the certificate of '{subject}' is not accepted: {Faults(chain, errors)}");
            }

            return isGood;
        },
    };

    /// <summary>Why no peer accepts this node's certificate at a time; null when its dates are no reason.</summary>
    public string? DateFault(DateTimeOffset now)
    {
        var (first, last) = (_certificate.NotBefore.ToUniversalTime(), _certificate.NotAfter.ToUniversalTime());
        return now.UtcDateTime > last ? $"it expired at {last:u}"
            : now.UtcDateTime < first ? $"it is not valid before {first:u}"
            : null;
    }

    /// <summary>For connections to a peer: its certificate must be signed by an authority and name the host called.</summary>
    public SslClientAuthenticationOptions ClientOptions(string host) => new()
    {
        TargetHost = host,
        ClientCertificateContext = _context,
        CertificateChainPolicy = Policy(),
    };

    public void Dispose() => _certificate.Dispose();

    // As the system names them: NotTimeValid, PartialChain, UntrustedRoot.
    private static string Faults(X509Chain? chain, SslPolicyErrors errors)
    {
        var faults = new SortedSet<string>(StringComparer.Ordinal);
        foreach (var status in chain?.ChainStatus ?? [])
        {
            _ = faults.Add(status.Status.ToString());
        }

        return faults.Count > 0 ? string.Join(", ", faults) : errors.ToString();
    }

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
