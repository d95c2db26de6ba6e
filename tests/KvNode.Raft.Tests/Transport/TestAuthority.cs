using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using KvNode.Raft.Transport;

namespace KvNode.Raft.Tests.Transport;

/// <summary>Makes certificates as a cluster's own authority does.</summary>
internal sealed class TestAuthority : IDisposable
{
    private static readonly DateTimeOffset First = DateTimeOffset.UtcNow.AddDays(-2);

    private readonly ECDsa _key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
    private readonly X509Certificate2 _certificate;

    public TestAuthority(string name)
    {
        var request = new CertificateRequest($"CN={name}", _key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
        request.CertificateExtensions.Add(
            new X509KeyUsageExtension(X509KeyUsageFlags.KeyCertSign | X509KeyUsageFlags.DigitalSignature, true));
        _certificate = request.CreateSelfSigned(First, First.AddYears(1));
    }

    public string Pem => _certificate.ExportCertificatePem();

    /// <summary>A certificate for nodes on this machine.</summary>
    /// <param name="host">Another name to stand in it instead.</param>
    public TlsMaterial Issue(string? host = null, bool expired = false, TestAuthority? trust = null)
    {
        var (certificate, _) = Sign(host, expired);
        return new TlsMaterial(certificate, [], [(trust ?? this)._certificate]);
    }

    /// <summary>Certificate and key as files have them.</summary>
    public (string Certificate, string Key) IssuePem(string? host = null)
    {
        var (certificate, key) = Sign(host, expired: false);
        using (certificate)
        {
            return (certificate.ExportCertificatePem(), key);
        }
    }

    public void Dispose()
    {
        _certificate.Dispose();
        _key.Dispose();
    }

    private (X509Certificate2 Certificate, string KeyPem) Sign(string? host, bool expired)
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest("CN=node", key, HashAlgorithmName.SHA256);
        var names = new SubjectAlternativeNameBuilder();
        if (host is null)
        {
            names.AddDnsName("localhost");
            names.AddIpAddress(IPAddress.Loopback);
        }
        else
        {
            names.AddDnsName(host);
        }

        request.CertificateExtensions.Add(names.Build());
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(false, false, 0, true));
        var last = expired ? First.AddDays(1) : First.AddMonths(6);
        using var bare = request.Create(_certificate, First, last, RandomNumberGenerator.GetBytes(8));
        return (bare.CopyWithPrivateKey(key), key.ExportPkcs8PrivateKeyPem());
    }
}
