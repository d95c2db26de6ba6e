using System.Buffers.Binary;
using System.Globalization;
using KvNode.Raft;
using KvNode.Testing.Linearizability;

namespace KvNode.Simulation;

/// <summary>The keys of a run: two prefixes with some keys each, in order. A set of keys is a mask.</summary>
internal static class Keys
{
    public const int Count = 8;

    public const byte All = 0xff;

    public static string[] Names { get; } = ["a0", "a1", "a2", "a3", "b0", "b1", "b2", "b3"];

    public static byte OfPrefix(string prefix) => prefix switch
    {
        "a" => 0x0f,
        "b" => 0xf0,
        _ => All,
    };
}

/// <summary>One command of one client.</summary>
internal sealed class Command(int client, OperationKind kind, byte keys, long value, string prefix, long calledAt)
{
    public int Client => client;

    public OperationKind Kind => kind;

    /// <summary>Which keys it is about.</summary>
    public byte Mask => keys;

    /// <summary>What it writes to all of them; never 0, never twice.</summary>
    public long Value => value;

    public bool IsRead => kind is OperationKind.Get or OperationKind.MultiGet or OperationKind.Range;

    /// <summary>Everything acknowledged before it was called is at or before this index.</summary>
    public ulong LeastIndex { get; init; }

    public long CalledAt => calledAt;

    public long ReturnedAt { get; set; } = Operation.Never;

    /// <summary>What it read, by key; 0 for nothing.</summary>
    public long[]? Found { get; set; }

    public int Counted { get; set; }

    /// <summary>It saw everything up to this index, and may have seen what is in the next one.</summary>
    public ulong SeenIndex { get; set; }

    /// <summary>The last index of which it may have seen or done something.</summary>
    public ulong TouchedIndex { get; set; }

    /// <summary>For the checker; not for what certainly did not happen.</summary>
    public Operation ToOperation()
    {
        string[] names = kind is OperationKind.PatternDelete or OperationKind.Range ? [prefix] : NamesOf(keys);
        var operation = new Operation
        {
            Client = client,
            Kind = kind,
            Keys = names,
            Values = kind is OperationKind.Set or OperationKind.MultiSet ? Repeat(Text(value), names.Length) : [],
            Options = kind == OperationKind.Range ? new RangeOptions(WithValues: true) : RangeOptions.All,
            CalledAt = calledAt,
        };
        if (ReturnedAt == Operation.Never)
        {
            return operation;
        }

        return kind switch
        {
            OperationKind.Set or OperationKind.MultiSet => operation.Done(ReturnedAt),
            OperationKind.Delete or OperationKind.PatternDelete => operation.Counted(ReturnedAt, Counted),
            OperationKind.Range => operation.Returned(ReturnedAt, Pairs()),
            _ => operation.Returned(ReturnedAt, Values()),
        };
    }

    private static string Text(long value) => value.ToString(CultureInfo.InvariantCulture);

    private static string[] Repeat(string text, int count)
    {
        var all = new string[count];
        Array.Fill(all, text);
        return all;
    }

    private static string[] NamesOf(byte mask)
    {
        var names = new List<string>();
        for (var i = 0; i < Keys.Count; i++)
        {
            if ((mask & (1 << i)) != 0)
            {
                names.Add(Keys.Names[i]);
            }
        }

        return [.. names];
    }

    private string?[] Values()
    {
        var values = new List<string?>();
        for (var i = 0; i < Keys.Count; i++)
        {
            if ((keys & (1 << i)) != 0)
            {
                values.Add(Found![i] == 0 ? null : Text(Found[i]));
            }
        }

        return [.. values];
    }

    private string?[] Pairs()
    {
        var pairs = new List<string?>();
        for (var i = 0; i < Keys.Count; i++)
        {
            if ((keys & (1 << i)) != 0 && Found![i] != 0)
            {
                pairs.Add(Keys.Names[i]);
                pairs.Add(Text(Found[i]));
            }
        }

        return [.. pairs];
    }
}

/// <summary>Commands that go into the log together.</summary>
/// <remarks>
/// <code>
/// 0 u64 the batch's number   8 u8 commands   then per command: u8 kind   u8 keys   u64 value   then padding
/// </code>
/// </remarks>
internal sealed class CommandBatch(Simulation simulation, ulong number, int padding) : ProposalBatch
{
    private const int HeaderBytes = 9;
    private const int CommandBytes = 10;

    public ulong Number => number;

    public List<Command> Commands { get; } = [];

    public bool IsSealed { get; private set; }

    public bool IsOver { get; private set; }

    public override ReadOnlyMemory<byte> Seal()
    {
        Expect.That(!IsSealed, "batches", "a batch was sealed twice");
        IsSealed = true;
        if (Commands.TrueForAll(static command => command.IsRead))
        {
            return default;
        }

        var bytes = new byte[HeaderBytes + (Commands.Count * CommandBytes) + padding];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, number);
        bytes[8] = (byte)Commands.Count;
        var at = HeaderBytes;
        foreach (var command in Commands)
        {
            bytes[at] = (byte)command.Kind;
            bytes[at + 1] = command.Mask;
            BinaryPrimitives.WriteInt64LittleEndian(bytes.AsSpan(at + 2), command.Value);
            at += CommandBytes;
        }

        return bytes;
    }

    public override void Complete(ProposalOutcome outcome)
    {
        Expect.That(!IsOver, "batches", "a batch was answered twice");
        Expect.That(IsSealed, "batches", "a batch was answered before it was sealed");
        IsOver = true;
        simulation.OnOutcome(this, outcome);
    }

    public static ulong NumberOf(ReadOnlySpan<byte> payload) => BinaryPrimitives.ReadUInt64LittleEndian(payload);

    /// <summary>Takes a batch's commands to a state; the results into them if they are at hand.</summary>
    public static void Execute(ReadOnlySpan<byte> payload, MapState state, CommandBatch? batch)
    {
        var at = HeaderBytes;
        for (var i = 0; i < payload[8]; i++)
        {
            var kind = (OperationKind)payload[at];
            var value = BinaryPrimitives.ReadInt64LittleEndian(payload[(at + 2)..]);
            state.Execute(kind, payload[at + 1], value, batch?.Commands[i]);
            at += CommandBytes;
        }
    }
}

/// <summary>An ordered map with few keys, cheap to copy and to compare.</summary>
internal sealed class MapState
{
    private readonly long[] _values = new long[Keys.Count];

    /// <summary>The same for the same contents.</summary>
    public ulong Digest { get; private set; }

    public void CopyFrom(MapState other)
    {
        other._values.CopyTo(_values, 0);
        Digest = other.Digest;
    }

    public void Execute(OperationKind kind, byte mask, long value, Command? command)
    {
        switch (kind)
        {
            case OperationKind.Set:
            case OperationKind.MultiSet:
                Write(mask, value);
                break;
            case OperationKind.Delete:
            case OperationKind.PatternDelete:
                var count = Write(mask, 0);
                if (command is not null)
                {
                    command.Counted = count;
                }

                break;
            default:
                if (command is not null)
                {
                    command.Found = (long[])_values.Clone();
                }

                break;
        }
    }

    private int Write(byte mask, long value)
    {
        var present = 0;
        for (var i = 0; i < Keys.Count; i++)
        {
            if ((mask & (1 << i)) == 0)
            {
                continue;
            }

            if (_values[i] != 0)
            {
                present++;
                Digest ^= Hash.Mix((ulong)_values[i] * Keys.Count, (ulong)i);
            }

            _values[i] = value;
            if (value != 0)
            {
                Digest ^= Hash.Mix((ulong)value * Keys.Count, (ulong)i);
            }
        }

        return present;
    }
}

/// <summary>Digests: no secret, only unlikely to meet.</summary>
internal static class Hash
{
    public static ulong Mix(ulong left, ulong right)
    {
        var mixed = left + (right * 0x9E3779B97F4A7C15) + 0x632BE59BD9B4E019;
        mixed = (mixed ^ (mixed >> 32)) * 0xD6E8FEB86659FD93;
        mixed = (mixed ^ (mixed >> 32)) * 0xD6E8FEB86659FD93;
        return mixed ^ (mixed >> 32);
    }

    public static ulong Of(ReadOnlySpan<byte> bytes)
    {
        var hash = (ulong)bytes.Length;
        while (bytes.Length >= sizeof(ulong))
        {
            hash = Mix(hash, BinaryPrimitives.ReadUInt64LittleEndian(bytes));
            bytes = bytes[sizeof(ulong)..];
        }

        foreach (var value in bytes)
        {
            hash = Mix(hash, value);
        }

        return hash;
    }
}
