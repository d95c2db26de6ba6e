using KvNode.Server.Resp;

namespace KvNode.Server.Commands;

/// <summary>Redis Cluster's slots, for clients that follow <c>-MOVED</c>: here all of them belong to the leader.</summary>
internal static class ClusterSlots
{
    public const int Count = 16_384;

    private static readonly ushort[] Table = MakeTable();

    /// <summary>CRC-16/XMODEM, modulo 16384, of the key's hash tag: what stands between the first <c>{</c> and the next
    /// <c>}</c> when that is not empty, else the whole key.</summary>
    public static int Of(ReadOnlySpan<byte> key)
    {
        var open = key.IndexOf((byte)'{');
        if (open >= 0)
        {
            var length = key[(open + 1)..].IndexOf((byte)'}');
            key = length > 0 ? key.Slice(open + 1, length) : key;
        }

        ushort crc = 0;
        foreach (var octet in key)
        {
            crc = (ushort)((crc << 8) ^ Table[(crc >> 8) ^ octet]);
        }

        return crc % Count;
    }

    /// <summary>The slot of a command's first key; 0 for one that names none.</summary>
    public static int Of(CommandSpec spec, CommandArgs args) =>
        spec.Keys.First > 0 && spec.Keys.First < args.Count ? Of(args[spec.Keys.First]) : 0;

    // Polynomial x^16 + x^12 + x^5 + 1, most significant bit first.
    private static ushort[] MakeTable()
    {
        var table = new ushort[256];
        for (var octet = 0; octet < table.Length; octet++)
        {
            var crc = octet << 8;
            for (var bit = 0; bit < 8; bit++)
            {
                crc = (crc & 0x8000) != 0 ? (crc << 1) ^ 0x1021 : crc << 1;
            }

            table[octet] = (ushort)crc;
        }

        return table;
    }
}
