using System.Buffers.Binary;
using System.Net;
using System.Security.Cryptography;
using System.Text;
using KvNode.Raft.Wal;

namespace KvNode.Raft.Transport;

/// <summary>What a connection is for. ON THE WIRE.</summary>
internal enum PeerPurpose : byte
{
    Messages = 1,

    /// <summary>One snapshot.</summary>
    Bulk = 2,

    /// <summary>One request and its reply. The only one open to nodes of no cluster.</summary>
    Control = 3,
}

/// <summary>Why a connection is not wanted. ON THE WIRE.</summary>
internal enum PeerRefusal : byte
{
    None = 0,

    /// <summary>No version that both speak.</summary>
    Version = 1,

    /// <summary>Another cluster's node.</summary>
    Cluster = 2,

    /// <summary>The answering node is not the one that was called for.</summary>
    WrongNode = 3,

    /// <summary>The caller has this node's own id.</summary>
    SameNode = 4,

    /// <summary>The caller has not proven that it belongs: another secret, or none, or no certificate.</summary>
    Proof = 5,

    /// <summary>A newer start of the same node is connected.</summary>
    Outdated = 6,

    /// <summary>Too many connections at this moment.</summary>
    Busy = 7,

    /// <summary>The answering node belongs to no cluster yet: it is being let in, or waits for it.</summary>
    NoCluster = 8,
}

/// <param name="Expected">Node id that the caller wants to reach; 0 for whoever is there.</param>
internal readonly record struct PeerHello(PeerIdentity Caller, PeerPurpose Purpose, ulong Expected);

/// <summary>The other end refused, or is not who it should be.</summary>
internal sealed class PeerRefusedException(PeerRefusal refusal, string message) : IOException(message)
{
    public PeerRefusal Refusal { get; } = refusal;
}

/// <summary>
/// How two nodes come to know each other, before any frame. All numbers little-endian.
/// <code>
/// caller:  hello       0 magic   8 u16 lowest and highest version   12 u16 bytes of the hello   14 u8 purpose   15 u8 zero
///                     16 u64 cluster   24 u64 node   32 u64 incarnation   40 u64 node called for   48 u8[16] nonce
///                     64 address, UTF-8    then u32 CRC32C of all before
/// called:  challenge   0 magic   8 u16 version   10 u8 refusal   11 u8 1: a secret is asked for   12 u32 CRC32C of the rest
///                     16 u64 cluster   24 u64 node   32 u64 incarnation   40 u8[16] nonce   56 u64 zero
/// caller:  proof       0 u8[32] HMAC-SHA256(secret, "kvnode caller 1" hello challenge), zero without a secret
/// called:  verdict     0 u8 refusal   1 u8[7] zero   8 u8[32] HMAC-SHA256(secret, "kvnode called 1" hello challenge)
/// </code>
/// </summary>
/// <remarks>
/// <para>Each proof covers both nonces, both ids and the purpose, so neither a recorded handshake nor one reflected to its
/// sender proves anything. The frames that follow carry checksums and no proof of their own: that would cost a microsecond
/// and more for each, and whoever can change bytes on the way can read them too. Against such a one TLS helps, which does
/// both.</para>
/// <para>The first twelve bytes stay the same in all versions.</para>
/// </remarks>
internal static class PeerHandshake
{
    public const ushort Version = 1;

    private const int FrontBytes = 16;
    private const int HelloFixedBytes = 64;
    private const int CrcBytes = 4;
    private const int HelloBytesMax = HelloFixedBytes + TransportLimits.AddressBytesMax + CrcBytes;
    private const int ChallengeBytes = 64;
    private const int NonceBytes = 16;
    private const int ProofBytes = HMACSHA256.HashSizeInBytes;
    private const int VerdictBytes = 8 + ProofBytes;
    private const byte SecretFlag = 1;

    // A caller inside TLS is let in before its certificate is judged, and is not told.
    private const string CertificateHint = ": that node's log says whether it refused this one's certificate";

    private static ReadOnlySpan<byte> CallerLabel => "kvnode caller 1"u8;

    private static ReadOnlySpan<byte> CalledLabel => "kvnode called 1"u8;

    /// <summary>The calling end.</summary>
    /// <returns>Who answered; its address is not told.</returns>
    /// <exception cref="PeerRefusedException">One of the two does not want the other.</exception>
    public static async Task<PeerIdentity> CallAsync(
        PeerChannel channel, PeerHello hello, TransportSecurity security, CancellationToken cancellation)
    {
        RequireReach(channel, security);
        var helloBytes = Encode(hello);
        await channel.SendAsync(helloBytes, cancellation);
        var challenge = new byte[ChallengeBytes];
        await ReceiveAsync(channel, challenge, cancellation, security.Tls is null ? "" : CertificateHint);
        var called = DecodeChallenge(challenge, hello, security);
        await channel.SendAsync(Prove(security, CallerLabel, helloBytes, challenge), cancellation);
        var verdict = new byte[VerdictBytes];
        await ReceiveAsync(channel, verdict, cancellation);
        Check((PeerRefusal)verdict[0]);
        if (!CryptographicOperations.FixedTimeEquals(
            verdict.AsSpan(8), Prove(security, CalledLabel, helloBytes, challenge)))
        {
            throw new PeerRefusedException(PeerRefusal.Proof, "it does not know the cluster's secret");
        }

        return called;
    }

    /// <summary>The called end: lets the caller in, or tells it why not and throws.</summary>
    /// <param name="onHello">Called when the caller's hello has come and is sound.</param>
    /// <param name="admit">Asked last, when the caller has proven itself; what is not <see cref="PeerRefusal.None"/> refuses.</param>
    /// <exception cref="PeerProtocolException">The caller is no peer.</exception>
    /// <exception cref="PeerRefusedException">The caller was refused.</exception>
    public static async Task<PeerHello> AnswerAsync(
        PeerChannel channel,
        PeerIdentity self,
        TransportSecurity security,
        Action onHello,
        Func<PeerHello, PeerRefusal> admit,
        CancellationToken cancellation)
    {
        RequireReach(channel, security);
        var (hello, helloBytes) = await ReceiveHelloAsync(channel, self, cancellation);
        onHello();
        var challenge = EncodeChallenge(self, Judge(hello, self, channel, security), security);
        await channel.SendAsync(challenge, cancellation);
        Check((PeerRefusal)challenge[10]);

        var proof = new byte[ProofBytes];
        await ReceiveAsync(channel, proof, cancellation);
        var refusal = CryptographicOperations.FixedTimeEquals(proof, Prove(security, CallerLabel, helloBytes, challenge))
            ? admit(hello)
            : PeerRefusal.Proof;
        var verdict = new byte[VerdictBytes];
        verdict[0] = (byte)refusal;
        if (refusal == PeerRefusal.None)
        {
            Prove(security, CalledLabel, helloBytes, challenge).CopyTo(verdict, 8);
        }

        await channel.SendAsync(verdict, cancellation);
        Check(refusal);
        return hello;
    }

    // Closes without an answer: who is not on this machine learns nothing from a node that cannot tell friend from foe.
    private static void RequireReach(PeerChannel channel, TransportSecurity security)
    {
        if (security.LoopbackOnly && !IsLoopback(channel.Remote))
        {
            throw new PeerRefusedException(
                PeerRefusal.Proof, "without a cluster secret or TLS only peers on this machine are dealt with");
        }
    }

    private static bool IsLoopback(EndPoint? remote) =>
        remote is IPEndPoint { Address: var address }
        && IPAddress.IsLoopback(address.IsIPv4MappedToIPv6 ? address.MapToIPv4() : address);

    private static PeerRefusal Judge(PeerHello hello, PeerIdentity self, PeerChannel channel, TransportSecurity security)
    {
        var caller = hello.Caller;
        var isControl = hello.Purpose == PeerPurpose.Control;
        if (!isControl && self.ClusterId == 0)
        {
            return PeerRefusal.NoCluster;
        }

        if (caller.ClusterId != self.ClusterId && !(isControl && (caller.ClusterId == 0 || self.ClusterId == 0)))
        {
            return PeerRefusal.Cluster;
        }

        if (!isControl && caller.NodeId == self.NodeId)
        {
            return PeerRefusal.SameNode;
        }

        if (hello.Expected != 0 && hello.Expected != self.NodeId)
        {
            return PeerRefusal.WrongNode;
        }

        return security.Tls is not null && !channel.IsCertified ? PeerRefusal.Proof : PeerRefusal.None;
    }

    private static byte[] Encode(PeerHello hello)
    {
        var address = Encoding.UTF8.GetBytes(hello.Caller.Address);
        Invariant.Check(address.Length <= TransportLimits.AddressBytesMax);
        var bytes = new byte[HelloFixedBytes + address.Length + CrcBytes];
        PeerMagic.Value.CopyTo(bytes);
        BinaryPrimitives.WriteUInt16LittleEndian(bytes.AsSpan(8), Version);
        BinaryPrimitives.WriteUInt16LittleEndian(bytes.AsSpan(10), Version);
        BinaryPrimitives.WriteUInt16LittleEndian(bytes.AsSpan(12), (ushort)bytes.Length);
        bytes[14] = (byte)hello.Purpose;
        BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(16), hello.Caller.ClusterId);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(24), hello.Caller.NodeId);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(32), hello.Caller.Incarnation);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(40), hello.Expected);
        RandomNumberGenerator.Fill(bytes.AsSpan(48, NonceBytes));
        address.CopyTo(bytes, HelloFixedBytes);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(^CrcBytes..), Crc32C.Compute(bytes.AsSpan(..^CrcBytes)));
        return bytes;
    }

    private static async Task<(PeerHello Hello, byte[] Bytes)> ReceiveHelloAsync(
        PeerChannel channel, PeerIdentity self, CancellationToken cancellation)
    {
        var front = new byte[FrontBytes];
        await ReceiveAsync(channel, front, cancellation);
        if (!front.AsSpan().StartsWith(PeerMagic.Value))
        {
            throw new PeerProtocolException("not a peer");
        }

        var lowest = BinaryPrimitives.ReadUInt16LittleEndian(front.AsSpan(8));
        var highest = BinaryPrimitives.ReadUInt16LittleEndian(front.AsSpan(10));
        if (Version < lowest || Version > highest)
        {
            await channel.SendAsync(EncodeChallenge(self, PeerRefusal.Version, TransportSecurity.None), cancellation);
            throw new PeerRefusedException(
                PeerRefusal.Version, $"it speaks versions {lowest} to {highest} of the peer protocol, this node {Version}");
        }

        var length = BinaryPrimitives.ReadUInt16LittleEndian(front.AsSpan(12));
        if (length is < HelloFixedBytes + CrcBytes or > HelloBytesMax)
        {
            throw new PeerProtocolException("a broken hello");
        }

        var bytes = new byte[length];
        front.CopyTo(bytes, 0);
        await ReceiveAsync(channel, bytes.AsMemory(FrontBytes), cancellation);
        return (DecodeHello(bytes), bytes);
    }

    private static PeerHello DecodeHello(ReadOnlySpan<byte> bytes)
    {
        var purpose = (PeerPurpose)bytes[14];
        var caller = new PeerIdentity(
            BinaryPrimitives.ReadUInt64LittleEndian(bytes[16..]),
            BinaryPrimitives.ReadUInt64LittleEndian(bytes[24..]),
            BinaryPrimitives.ReadUInt64LittleEndian(bytes[32..]),
            Encoding.UTF8.GetString(bytes[HelloFixedBytes..^CrcBytes]));
        if (BinaryPrimitives.ReadUInt32LittleEndian(bytes[^CrcBytes..]) != Crc32C.Compute(bytes[..^CrcBytes])
            || bytes[15] != 0
            || purpose is < PeerPurpose.Messages or > PeerPurpose.Control
            || (purpose != PeerPurpose.Control && (caller.NodeId == 0 || caller.ClusterId == 0)))
        {
            throw new PeerProtocolException("a broken hello");
        }

        return new PeerHello(caller, purpose, BinaryPrimitives.ReadUInt64LittleEndian(bytes[40..]));
    }

    private static byte[] EncodeChallenge(PeerIdentity self, PeerRefusal refusal, TransportSecurity security)
    {
        var bytes = new byte[ChallengeBytes];
        PeerMagic.Value.CopyTo(bytes);
        BinaryPrimitives.WriteUInt16LittleEndian(bytes.AsSpan(8), Version);
        bytes[10] = (byte)refusal;
        bytes[11] = security.Secret.IsEmpty ? (byte)0 : SecretFlag;
        BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(16), self.ClusterId);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(24), self.NodeId);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(32), self.Incarnation);
        RandomNumberGenerator.Fill(bytes.AsSpan(40, NonceBytes));
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(12), ChallengeCrc(bytes));
        return bytes;
    }

    private static uint ChallengeCrc(ReadOnlySpan<byte> bytes) =>
        Crc32C.Compute(bytes[16..]) ^ Crc32C.Compute(bytes[..12]);

    private static PeerIdentity DecodeChallenge(ReadOnlySpan<byte> bytes, PeerHello hello, TransportSecurity security)
    {
        if (!bytes.StartsWith(PeerMagic.Value)
            || BinaryPrimitives.ReadUInt32LittleEndian(bytes[12..]) != ChallengeCrc(bytes))
        {
            throw new PeerProtocolException("no node of ours answers there");
        }

        Check((PeerRefusal)bytes[10]);
        var called = new PeerIdentity(
            BinaryPrimitives.ReadUInt64LittleEndian(bytes[16..]),
            BinaryPrimitives.ReadUInt64LittleEndian(bytes[24..]),
            BinaryPrimitives.ReadUInt64LittleEndian(bytes[32..]),
            "");
        if (hello.Expected != 0 && called.NodeId != hello.Expected)
        {
            throw new PeerRefusedException(PeerRefusal.WrongNode, "another node answers there");
        }

        if (hello.Purpose != PeerPurpose.Control && called.ClusterId != hello.Caller.ClusterId)
        {
            throw new PeerRefusedException(PeerRefusal.Cluster, "a node of another cluster answers there");
        }

        // Said here and not only by a proof that is wrong, because it is the likelier mistake and has a clear remedy.
        return (bytes[11] & SecretFlag) != 0 == security.Secret.IsEmpty
            ? throw new PeerRefusedException(
                PeerRefusal.Proof, security.Secret.IsEmpty ? "it asks for a cluster secret" : "it has no cluster secret")
            : called;
    }

    private static byte[] Prove(TransportSecurity security, ReadOnlySpan<byte> label, byte[] hello, byte[] challenge) =>
        security.Secret.IsEmpty
            ? new byte[ProofBytes]
            : HMACSHA256.HashData(security.Secret.Span, [.. label, .. hello, .. challenge]);

    private static void Check(PeerRefusal refusal)
    {
        if (refusal != PeerRefusal.None)
        {
            throw new PeerRefusedException(refusal, refusal switch
            {
                PeerRefusal.Version => "no version of the peer protocol in common",
                PeerRefusal.Cluster => "a node of another cluster",
                PeerRefusal.WrongNode => "not the node that was called for",
                PeerRefusal.SameNode => "the same node id on both ends",
                PeerRefusal.Proof => "no proof of belonging to the cluster: check secret and certificate on both ends",
                PeerRefusal.Outdated => "a newer start of the same node is connected",
                PeerRefusal.NoCluster => "a node that is in no cluster yet",
                PeerRefusal.Busy => "too many connections",
                _ => "an unknown reason",
            });
        }
    }

    private static async Task ReceiveAsync(
        PeerChannel channel, Memory<byte> buffer, CancellationToken cancellation, string hint = "")
    {
        while (!buffer.IsEmpty)
        {
            var received = await channel.ReceiveAsync(buffer, cancellation);
            if (received == 0)
            {
                throw new PeerProtocolException("the connection ended within the handshake" + hint);
            }

            buffer = buffer[received..];
        }
    }
}
