using System.Diagnostics.CodeAnalysis;
using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;

namespace KvNode.Server.Commands;

/// <summary>
/// Finds a command by the bytes of its name, in any letter case, without allocating. Immutable; any thread.
/// </summary>
/// <remarks>
/// An open-addressed table at most a quarter full. A name's first eight and last eight bytes (overlapping for short
/// names) stand for it: clearing bit 5 turns a letter into its upper case and nothing else into a letter, so comparing
/// under a mask that clears bit 5 only where the name has a letter is exact. Names longer than sixteen bytes have their
/// middle compared as well.
/// </remarks>
internal sealed class CommandNames
{
    private const ulong UpperMask = 0xDFDF_DFDF_DFDF_DFDF;

    private readonly Slot[] _slots;
    private readonly int _shift;

    /// <exception cref="ArgumentException">A name is empty or there twice.</exception>
    public CommandNames(ReadOnlySpan<CommandSpec> rows)
    {
        var size = BitOperations.RoundUpToPowerOf2((uint)Math.Max(8, rows.Length * 4));
        _slots = new Slot[size];
        _shift = 64 - BitOperations.Log2(size);
        foreach (var row in rows)
        {
            Add(row);
        }
    }

    /// <summary>The part of a row's name that is looked up: what follows the <c>|</c> of a subcommand.</summary>
    public static string KeyOf(CommandSpec row) => row.Name[(row.Name.IndexOf('|', StringComparison.Ordinal) + 1)..];

    public bool TryFind(ReadOnlySpan<byte> name, [NotNullWhen(true)] out CommandSpec? spec)
    {
        var length = name.Length;
        Load(name, out var head, out var tail);
        var slots = _slots;
        for (var at = Hash(head, tail, length); ; at++)
        {
            ref readonly var slot = ref slots[at & (slots.Length - 1)];
            if (slot.Spec is null)
            {
                spec = null;
                return false;
            }

            if (slot.Length == length && (head & slot.HeadMask) == slot.Head && (tail & slot.TailMask) == slot.Tail
                && (length <= 16 || MiddleMatches(slot.Spec, name)))
            {
                spec = slot.Spec;
                return true;
            }
        }
    }

    private void Add(CommandSpec row)
    {
        var name = Encoding.ASCII.GetBytes(KeyOf(row));
        if (name.Length == 0 || TryFind(name, out _))
        {
            throw new ArgumentException($"command name '{row.Name}' is empty or there twice", nameof(row));
        }

        var mask = new byte[name.Length];
        for (var i = 0; i < name.Length; i++)
        {
            mask[i] = char.IsAsciiLetterUpper((char)name[i]) ? (byte)0xDF : (byte)0xFF;
        }

        Load(name, out var head, out var tail);
        Load(mask, out var headMask, out var tailMask);
        var at = Hash(head, tail, name.Length);
        while (_slots[at & (_slots.Length - 1)].Spec is not null)
        {
            at++;
        }

        _slots[at & (_slots.Length - 1)] = new Slot
        {
            Spec = row,
            Length = name.Length,
            Head = head & headMask,
            Tail = tail & tailMask,
            HeadMask = headMask,
            TailMask = tailMask,
        };
    }

    private static bool MiddleMatches(CommandSpec spec, ReadOnlySpan<byte> name) =>
        Ascii.EqualsIgnoreCase(name, KeyOf(spec));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Load(ReadOnlySpan<byte> name, out ulong head, out ulong tail)
    {
        ref var first = ref MemoryMarshal.GetReference(name);
        var length = name.Length;
        if (length >= 8)
        {
            head = Unsafe.ReadUnaligned<ulong>(ref first);
            tail = Unsafe.ReadUnaligned<ulong>(ref Unsafe.Add(ref first, length - 8));
        }
        else if (length >= 4)
        {
            head = Unsafe.ReadUnaligned<uint>(ref first);
            tail = Unsafe.ReadUnaligned<uint>(ref Unsafe.Add(ref first, length - 4));
        }
        else if (length > 0)
        {
            head = (uint)(first | (Unsafe.Add(ref first, length >> 1) << 8));
            tail = Unsafe.Add(ref first, length - 1);
        }
        else
        {
            head = 0;
            tail = 0;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private int Hash(ulong head, ulong tail, int length)
    {
        var mixed = (head & UpperMask) + (BitOperations.RotateLeft(tail & UpperMask, 23) ^ (uint)length);
        return (int)((mixed * 0x9E37_79B9_7F4A_7C15) >> _shift);
    }

    private struct Slot
    {
        public CommandSpec? Spec;
        public int Length;
        public ulong Head;
        public ulong Tail;
        public ulong HeadMask;
        public ulong TailMask;
    }
}
