using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace KvNode.Raft.Wal;

/// <summary>CRC-32C (Castagnoli, RFC 3720 appendix B.4), by the processor's instruction where it has one.</summary>
internal static class Crc32C
{
    public static uint Compute(ReadOnlySpan<byte> data)
    {
        var crc = uint.MaxValue;
        var words = MemoryMarshal.Cast<byte, ulong>(data);
        foreach (var word in words)
        {
            crc = BitOperations.Crc32C(crc, word);
        }

        foreach (var single in data[(words.Length * sizeof(ulong))..])
        {
            crc = BitOperations.Crc32C(crc, single);
        }

        return ~crc;
    }

    /// <summary>The CRC of each 512-byte sector. Four at a time: the instruction has a latency of three.</summary>
    public static void ComputeSectors(ReadOnlySpan<byte> sectors, Span<uint> crcs)
    {
        const int words = WalFormat.SectorBytes / sizeof(ulong);
        var all = MemoryMarshal.Cast<byte, ulong>(sectors);
        var i = 0;
        for (; i + 4 <= crcs.Length; i += 4)
        {
            ComputeFour(all.Slice(i * words, 4 * words), crcs.Slice(i, 4));
        }

        for (; i < crcs.Length; i++)
        {
            crcs[i] = Compute(sectors.Slice(i * WalFormat.SectorBytes, WalFormat.SectorBytes));
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void ComputeFour(ReadOnlySpan<ulong> data, Span<uint> crcs)
    {
        const int words = WalFormat.SectorBytes / sizeof(ulong);
        var a = data[..words];
        var b = data.Slice(words, words);
        var c = data.Slice(2 * words, words);
        var d = data.Slice(3 * words, words);
        uint crcA = uint.MaxValue, crcB = uint.MaxValue, crcC = uint.MaxValue, crcD = uint.MaxValue;
        for (var i = 0; i < words; i++)
        {
            crcA = BitOperations.Crc32C(crcA, a[i]);
            crcB = BitOperations.Crc32C(crcB, b[i]);
            crcC = BitOperations.Crc32C(crcC, c[i]);
            crcD = BitOperations.Crc32C(crcD, d[i]);
        }

        crcs[0] = ~crcA;
        crcs[1] = ~crcB;
        crcs[2] = ~crcC;
        crcs[3] = ~crcD;
    }
}
