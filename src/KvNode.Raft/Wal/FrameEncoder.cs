using System.Buffers.Binary;
using System.Numerics;
using System.Runtime.InteropServices;

namespace KvNode.Raft.Wal;

/// <summary>
/// Turns records into the bytes of a frame.
/// </summary>
/// <remarks>
/// Recovery tells a sector that was never written (all zero) from one that rotted (neither zero nor matching). One
/// flipped bit must not turn the second into the first, so no written sector may have just one bit set, and the head's
/// and the last sector are never all zero. Where a payload would break that, it is xor-ed with a mask that does not;
/// ordinary payloads never need one.
/// </remarks>
internal static class FrameEncoder
{
    /// <summary>Bytes that the records need as a frame's payload.</summary>
    public static long PayloadBytes(ReadOnlySpan<WalRecord> records)
    {
        long bytes = WalFormat.EndMarkBytes;
        foreach (ref readonly var record in records)
        {
            bytes += record.EncodedBytes;
        }

        return bytes;
    }

    /// <summary>Fills all of <paramref name="frame"/>, whose size is that of the layout.</summary>
    /// <param name="header">All fields but mask and CRC are taken from it.</param>
    /// <returns>The header's CRC: the next frame's chain.</returns>
    public static uint Encode(
        in FrameHeader header, in FrameLayout layout, ReadOnlySpan<WalRecord> records, Span<byte> frame)
    {
        Invariant.Check(frame.Length == layout.Bytes);
        var end = layout.PayloadOffset;
        foreach (ref readonly var record in records)
        {
            end += record.Encode(frame[end..]);
        }

        BinaryPrimitives.WriteUInt32LittleEndian(frame[end..], WalFormat.EndMark);
        end += WalFormat.EndMarkBytes;
        Invariant.Check(end == layout.PayloadOffset + header.PayloadBytes);
        frame[end..].Clear();

        var payload = frame[layout.PayloadOffset..end];
        var mask = 0UL;
        uint crc;
        // Each sector spoils at most a few masks, so this ends; more than one turn is already rare.
        for (var attempt = 0UL; !TrySeal(header with { Mask = mask }, layout, frame, out crc); attempt++)
        {
            ApplyMask(payload, mask);
            mask = NextMask(header.Sequence, attempt);
            ApplyMask(payload, mask);
        }

        return crc;
    }

    /// <summary>Puts the mask on, or takes it off.</summary>
    public static void ApplyMask(Span<byte> payload, ulong mask)
    {
        if (mask == 0)
        {
            return;
        }

        var words = MemoryMarshal.Cast<byte, ulong>(payload);
        for (var i = 0; i < words.Length; i++)
        {
            words[i] ^= mask;
        }

        var rest = payload[(words.Length * sizeof(ulong))..];
        for (var i = 0; i < rest.Length; i++)
        {
            rest[i] ^= (byte)(mask >> (8 * i));
        }
    }

    /// <summary>Writes table and header; false if some sector has too few bits set.</summary>
    private static bool TrySeal(in FrameHeader header, in FrameLayout layout, Span<byte> frame, out uint crc)
    {
        crc = 0;
        var body = frame[layout.HeadBytes..];
        for (var i = 0; i < layout.BodySectors; i++)
        {
            var bits = BitsUpToTwo(body.Slice(i * WalFormat.SectorBytes, WalFormat.SectorBytes));
            if (bits == 1 || (bits == 0 && i == layout.BodySectors - 1))
            {
                return false;
            }
        }

        var table = MemoryMarshal.Cast<byte, uint>(frame[FrameHeader.Bytes..layout.PayloadOffset]);
        Crc32C.ComputeSectors(body, table[..layout.BodySectors]);
        table[layout.BodySectors..].Clear();
        for (var i = 1; i < layout.HeadSectors; i++)
        {
            if (BitsUpToTwo(frame.Slice(i * WalFormat.SectorBytes, WalFormat.SectorBytes)) < 2)
            {
                return false;
            }
        }

        crc = (header with { HeadCrc = Crc32C.Compute(frame[FrameHeader.Bytes..layout.HeadBytes]) }).Encode(frame);
        return true;
    }

    /// <summary>0, 1, or 2 for "two or more".</summary>
    private static int BitsUpToTwo(ReadOnlySpan<byte> sector)
    {
        var bits = 0;
        foreach (var word in MemoryMarshal.Cast<byte, ulong>(sector))
        {
            bits += BitOperations.PopCount(word);
            if (bits >= 2)
            {
                return 2;
            }
        }

        return bits;
    }

    /// <summary>SplitMix64's finalizer: any well-mixed number does.</summary>
    private static ulong NextMask(ulong sequence, ulong attempt)
    {
        var z = (sequence * 0x9E37_79B9_7F4A_7C15) + ((attempt + 1) * 0xD1B5_4A32_D192_ED03);
        z = (z ^ (z >> 30)) * 0xBF58_476D_1CE4_E5B9;
        z = (z ^ (z >> 27)) * 0x94D0_49BB_1331_11EB;
        return z ^ (z >> 31);
    }
}
