using System.Buffers.Binary;
using System.Numerics;

namespace KvNode.Storage;

/// <summary>XXH64 with seed 0, piece by piece: 64 bits that tell states apart, not a defence against forgery.</summary>
/// <remarks>From the algorithm's description: four lanes of eight bytes each, their mix, the rest, an avalanche.
/// Check values: nothing EF46DB3751D8E999, "abc" 44BC2CF5AD770999. One thread at a time.</remarks>
internal sealed class Hash64
{
    private const ulong Prime1 = 0x9E37_79B1_85EB_CA87;
    private const ulong Prime2 = 0xC2B2_AE3D_27D4_EB4F;
    private const ulong Prime3 = 0x1656_67B1_9E37_79F9;
    private const ulong Prime4 = 0x85EB_CA77_C2B2_AE63;
    private const ulong Prime5 = 0x27D4_EB2F_1656_67C5;
    private const int StripeBytes = 32;

    private readonly byte[] _rest = new byte[StripeBytes];
    private int _restLength;
    private ulong _total;
    private ulong _a = unchecked(Prime1 + Prime2);
    private ulong _b = Prime2;
    private ulong _c;
    private ulong _d = unchecked(0 - Prime1);

    public static ulong Of(ReadOnlySpan<byte> bytes)
    {
        var hash = new Hash64();
        hash.Append(bytes);
        return hash.Finish();
    }

    public void Append(ReadOnlySpan<byte> bytes)
    {
        _total += (ulong)bytes.Length;
        if (_restLength > 0)
        {
            var taken = Math.Min(bytes.Length, StripeBytes - _restLength);
            bytes[..taken].CopyTo(_rest.AsSpan(_restLength));
            bytes = bytes[taken..];
            _restLength += taken;
            if (_restLength < StripeBytes)
            {
                return;
            }

            Stripe(_rest);
        }

        while (bytes.Length >= StripeBytes)
        {
            Stripe(bytes);
            bytes = bytes[StripeBytes..];
        }

        bytes.CopyTo(_rest);
        _restLength = bytes.Length;
    }

    /// <summary>The hash of everything appended; more may follow.</summary>
    public ulong Finish()
    {
        var hash = Prime5;
        if (_total >= StripeBytes)
        {
            hash = BitOperations.RotateLeft(_a, 1) + BitOperations.RotateLeft(_b, 7) +
                BitOperations.RotateLeft(_c, 12) + BitOperations.RotateLeft(_d, 18);
            hash = Merge(hash, _a);
            hash = Merge(hash, _b);
            hash = Merge(hash, _c);
            hash = Merge(hash, _d);
        }

        return Avalanche(Rest(hash + _total, _rest.AsSpan(0, _restLength)));
    }

    private static ulong Rest(ulong hash, ReadOnlySpan<byte> rest)
    {
        for (; rest.Length >= sizeof(ulong); rest = rest[sizeof(ulong)..])
        {
            hash ^= Round(0, BinaryPrimitives.ReadUInt64LittleEndian(rest));
            hash = (BitOperations.RotateLeft(hash, 27) * Prime1) + Prime4;
        }

        if (rest.Length >= sizeof(uint))
        {
            hash ^= BinaryPrimitives.ReadUInt32LittleEndian(rest) * Prime1;
            hash = (BitOperations.RotateLeft(hash, 23) * Prime2) + Prime3;
            rest = rest[sizeof(uint)..];
        }

        foreach (var value in rest)
        {
            hash ^= value * Prime5;
            hash = BitOperations.RotateLeft(hash, 11) * Prime1;
        }

        return hash;
    }

    private static ulong Avalanche(ulong hash)
    {
        hash = (hash ^ (hash >> 33)) * Prime2;
        hash = (hash ^ (hash >> 29)) * Prime3;
        return hash ^ (hash >> 32);
    }

    private static ulong Round(ulong lane, ulong word) => BitOperations.RotateLeft(lane + (word * Prime2), 31) * Prime1;

    private static ulong Merge(ulong hash, ulong lane) => ((hash ^ Round(0, lane)) * Prime1) + Prime4;

    private void Stripe(ReadOnlySpan<byte> bytes)
    {
        _a = Round(_a, BinaryPrimitives.ReadUInt64LittleEndian(bytes));
        _b = Round(_b, BinaryPrimitives.ReadUInt64LittleEndian(bytes[8..]));
        _c = Round(_c, BinaryPrimitives.ReadUInt64LittleEndian(bytes[16..]));
        _d = Round(_d, BinaryPrimitives.ReadUInt64LittleEndian(bytes[24..]));
    }
}
