using System.Security.Cryptography;
using KvNode.Raft.Transport;
using Xunit;

namespace KvNode.Raft.Tests.Transport;

/// <summary>Peers inside TLS, where each shows a certificate of the cluster's authority.</summary>
public sealed class PeerTlsTests : IDisposable
{
    private readonly TestAuthority _authority = new("cluster");
    private readonly TestAuthority _foreign = new("somebody else");

    public void Dispose()
    {
        _authority.Dispose();
        _foreign.Dispose();
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task NodesOfOneAuthorityTalkBothWaysWithAndWithoutASecretBeside(bool secret)
    {
        using var tls = _authority.Issue();
        var security = new TransportSecurity { Tls = tls, Secret = secret ? "another proof beside"u8.ToArray() : default };
        using var one = new TestNode(1, security: security);
        using var two = new TestNode(2, security: security);
        var addresses = new Dictionary<ulong, string> { [1] = one.Address, [2] = two.Address };
        one.Transport.SetPeers(addresses);
        two.Transport.SetPeers(addresses);
        await PeerTransportTests.DeliveredAsync(one, two, 1);
        await PeerTransportTests.DeliveredAsync(two, one, 2);
        Assert.DoesNotContain(one.Notices, static notice => notice.Kind == PeerNoticeKind.LoopbackOnly);

        // Much at once, both ways.
        var payload = RandomNumberGenerator.GetBytes(3 << 20);
        one.Transport.Send(PeerTransportTests.Append(1, 2, 50, payload));
        two.Transport.Send(PeerTransportTests.Append(2, 1, 51, payload));
        one.Transport.Flush();
        two.Transport.Flush();
        foreach (var node in new[] { one, two })
        {
            var got = await node.Sink.WaitAsync<Told.Got>(static told => told.Payloads.Length == 1);
            Assert.True(payload.AsSpan().SequenceEqual(got.Payloads[0]));
        }
    }

    [Theory]
    [InlineData("foreign authority")]
    [InlineData("another host's name")]
    [InlineData("expired")]
    public async Task NodeWithAWrongCertificateIsNotTalkedTo(string fault)
    {
        using var good = _authority.Issue();
        using var bad = fault switch
        {
            "expired" => _authority.Issue(expired: true),
            "another host's name" => _authority.Issue(host: "elsewhere.example.org"),
            _ => _foreign.Issue(trust: _authority),
        };
        using var called = new TestNode(1, security: new TransportSecurity { Tls = bad });
        using var caller = new TestNode(2, security: new TransportSecurity { Tls = good });
        _ = await Assert.ThrowsAsync<TransportException>(
            async () => await caller.Transport.AskAsync(called.Address, new ControlRequest(1, default), default));
        Assert.Empty(called.Sink.All);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task CallerWithAWrongCertificateIsRefused(bool expired)
    {
        using var good = _authority.Issue();
        using var bad = expired ? _authority.Issue(expired: true) : _foreign.Issue(trust: _authority);
        using var called = new TestNode(1, security: new TransportSecurity { Tls = good });
        using var caller = new TestNode(2, security: new TransportSecurity { Tls = bad });
        called.Sink.Control = static _ => throw new InvalidOperationException("a stranger was listened to");
        for (var i = 0; i < 3; i++)
        {
            _ = await Assert.ThrowsAsync<TransportException>(
                async () => await caller.Transport.AskAsync(called.Address, new ControlRequest(1, default), default));
        }

        // Said once, and why.
        var said = Assert.Single(called.Notices, static notice => notice.Kind == PeerNoticeKind.Refused);
        Assert.Contains("CN=node", said.Detail, StringComparison.Ordinal);
        Assert.Contains(expired ? "NotTimeValid" : "PartialChain", said.Detail, StringComparison.Ordinal);
    }

    [Fact]
    public void CertificateKnowsWhenItIsOutOfDate()
    {
        using var good = _authority.Issue();
        using var expired = _authority.Issue(expired: true);
        var now = DateTimeOffset.UtcNow;
        Assert.Null(good.DateFault(now));
        Assert.StartsWith("it expired at", expired.DateFault(now), StringComparison.Ordinal);
        Assert.StartsWith("it is not valid before", good.DateFault(now.AddDays(-5)), StringComparison.Ordinal);
    }

    [Fact]
    public async Task PeerWithoutACertificateIsRefusedEvenWithTheSecret()
    {
        using var tls = _authority.Issue();
        var secret = "the right one, though"u8.ToArray();
        using var called = new TestNode(
            1, security: new TransportSecurity { Tls = tls, Secret = secret }, wrap: static channel => new BareChannel(channel));
        using var caller = new TestNode(2, security: new TransportSecurity { Tls = tls, Secret = secret });
        var failure = await Assert.ThrowsAsync<TransportException>(
            async () => await caller.Transport.AskAsync(called.Address, new ControlRequest(1, default), default));
        Assert.Contains("no proof of belonging", failure.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task FilesOnDiskBecomeTheMaterial()
    {
        using var directory = new Testing.TempDirectory("tls");
        var (certificate, key) = _authority.IssuePem();
        string Write(string name, string text)
        {
            var path = directory.Sub(name);
            File.WriteAllText(path, text);
            return path;
        }

        var (certificateFile, keyFile, authorityFile) =
            (Write("node.crt", certificate), Write("node.key", key), Write("ca.crt", _authority.Pem));
        using var tls = TlsMaterial.Load(certificateFile, keyFile, authorityFile);
        using var one = new TestNode(1, security: new TransportSecurity { Tls = tls });
        using var two = new TestNode(2, security: new TransportSecurity { Tls = tls });
        one.Sink.Control = static _ => new ControlReply(5, default);
        Assert.Equal(5, (await two.Transport.AskAsync(one.Address, new ControlRequest(1, default), default)).Status);

        _ = Assert.ThrowsAny<CryptographicException>(
            () => TlsMaterial.Load(certificateFile, Write("other.key", _authority.IssuePem().Key), authorityFile));
        _ = Assert.ThrowsAny<CryptographicException>(
            () => TlsMaterial.Load(certificateFile, keyFile, Write("empty.crt", "")));
        _ = Assert.ThrowsAny<CryptographicException>(
            () => TlsMaterial.Load(Write("bad.crt", "nonsense"), keyFile, authorityFile));
        _ = Assert.Throws<FileNotFoundException>(
            () => TlsMaterial.Load(directory.Sub("none"), keyFile, authorityFile));
    }

    /// <summary>As if the caller had shown no certificate.</summary>
    private sealed class BareChannel(PeerChannel inner) : WrappedChannel(inner)
    {
        public override bool IsCertified => false;
    }
}
