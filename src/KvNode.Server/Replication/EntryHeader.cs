using System.Buffers.Binary;

namespace KvNode.Server.Replication;

/// <summary>
/// The first bytes of a log entry's payload; the commands follow as RESP, one after another, as the clients sent them.
/// </summary>
/// <param name="Count">Commands that follow.</param>
/// <param name="LeaderMs">Milliseconds since the Unix epoch.</param>
/// <param name="IsLong">A command among them takes time that depends on the number of keys there are.</param>
/// <remarks>PERSISTED, little-endian, 16 bytes: version u8 (1), flags u8 (1: a command walks many keys), reserved u16 (0), command count u32,
/// leader time i64 (milliseconds since the Unix epoch: the clock of the node that gathered the commands, never going back
/// among its own; the state's clock is the greatest one applied).</remarks>
internal readonly record struct EntryHeader(int Count, long LeaderMs, bool IsLong)
{
    public const int Bytes = 16;
    public const byte Version = 1;

    private const byte LongFlag = 1;

    public void Write(Span<byte> target)
    {
        target[0] = Version;
        target[1] = IsLong ? LongFlag : (byte)0;
        BinaryPrimitives.WriteUInt16LittleEndian(target[2..], 0);
        BinaryPrimitives.WriteUInt32LittleEndian(target[4..], (uint)Count);
        BinaryPrimitives.WriteInt64LittleEndian(target[8..], LeaderMs);
    }

    /// <exception cref="InvalidDataException">The payload was written by something else or by a newer version.</exception>
    public static EntryHeader Read(ReadOnlySpan<byte> payload)
    {
        if (payload.Length < Bytes)
        {
            throw new InvalidDataException($"a log entry of {payload.Length} bytes is shorter than its header");
        }

        if (payload[0] != Version || payload[1] > LongFlag)
        {
            throw new InvalidDataException(
                $"a log entry has version {payload[0]}, flags {payload[1]}: this program knows version {Version}, flags up to {LongFlag}");
        }

        return new EntryHeader(
            checked((int)BinaryPrimitives.ReadUInt32LittleEndian(payload[4..])),
            BinaryPrimitives.ReadInt64LittleEndian(payload[8..]),
            IsLong: payload[1] == LongFlag);
    }
}
